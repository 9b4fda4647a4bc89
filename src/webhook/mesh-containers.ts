/**
 * Init containers of service meshes, by the names that their injectors give them. They have to run before the restore, which has no
 * network otherwise, and are stopped after the agent, since sidecars stop in reverse.
 */
export const knownMeshContainers: readonly string[] = [
  // Istio
  'istio-validation',
  'istio-init',
  'istio-proxy',
  // Linkerd
  'linkerd-network-validator',
  'linkerd-init',
  'linkerd-proxy',
  // Kuma
  'kuma-validation',
  'kuma-init',
  'kuma-sidecar',
  // Consul
  'consul-connect-inject-init',
  'consul-dataplane',
  // Open Service Mesh, AWS App Mesh
  'osm-init',
  'proxyinit',
  'envoy',
];
