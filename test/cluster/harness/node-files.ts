/** What stands on the disk of a node: settings of its services, as those of any small cluster but for what is said beside them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Certificates } from './certificates.ts';
import { podNetworkOf } from './network.ts';

export const pauseImage = 'localhost/holdfast-test-pause:1';

export interface NodePlace {
  readonly name: string;
  readonly index: number;
  readonly directory: string;
  /** Below each controller of /sys/fs/cgroup. */
  readonly cgroup: string;
}

export function writeNodeFiles(node: NodePlace, certificates: Certificates): void {
  const at = (...parts: readonly string[]): string => join(node.directory, ...parts);
  for (const path of ['lib/kubelet', 'lib/containerd', 'log/pods', 'log/containers', 'cni', 'sysctls']) {
    mkdirSync(at(path), { recursive: true });
  }
  writeFileSync(at('containerd.toml'), containerdToml(at('cni')));
  writeFileSync(at('cni/10-test.conflist'), JSON.stringify(cniList(node)));
  writeFileSync(at('kubelet.json'), JSON.stringify(kubeletConfiguration(node, certificates), undefined, 1));
  // One file for each node: kube-proxy ends when its file is written again.
  writeFileSync(at('kube-proxy.json'), JSON.stringify(proxyConfiguration(certificates), undefined, 1));
  for (const [name, value] of Object.entries(sysctls)) writeFileSync(at('sysctls', name), `${value}\n`);
}

/** What kubelet insists on. The values of the machine stay as they are: see kubelet.sh. */
const sysctls: Readonly<Record<string, string>> = {
  'vm.overcommit_memory': '1',
  'vm.panic_on_oom': '0',
  'kernel.panic': '10',
  'kernel.panic_on_oops': '1',
  'kernel.keys.root_maxkeys': '1000000',
  'kernel.keys.root_maxbytes': '25000000',
};

/** runc and no lower oom_score_adj: what a test machine without CAP_SYS_RESOURCE can do. */
function containerdToml(cniDirectory: string): string {
  return `version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "${containerdSocket}"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "${pauseImage}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
      BinaryName = "/usr/sbin/runc"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "${cniDirectory}"
`;
}

export const containerdSocket = '/run/containerd/containerd.sock';

function cniList(node: NodePlace): object {
  const ipam = {
    type: 'host-local',
    dataDir: '/run/cni-ipam',
    ranges: [[{ subnet: podNetworkOf(node.index) }]],
    routes: [{ dst: '0.0.0.0/0' }],
  };
  return {
    cniVersion: '1.0.0',
    name: 'test',
    plugins: [
      { type: 'bridge', bridge: 'cni0', isGateway: true, hairpinMode: true, ipMasq: false, ipam },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  };
}

function kubeletConfiguration({ name, cgroup }: NodePlace, certificates: Certificates): object {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: certificates.at('ca.crt') },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: certificates.at(`${name}.crt`),
    tlsPrivateKeyFile: certificates.at(`${name}.key`),
    containerRuntimeEndpoint: `unix://${containerdSocket}`,
    cgroupDriver: 'cgroupfs',
    cgroupRoot: `/${cgroup}`,
    failCgroupV1: false,
    failSwapOn: false,
    oomScoreAdj: 0,
    maxOpenFiles: 20_000,
    resolvConf: '',
    evictionHard: {
      'memory.available': '100Mi',
      'nodefs.available': '1%',
      'nodefs.inodesFree': '1%',
      'imagefs.available': '1%',
    },
    imageGCHighThresholdPercent: 100,
    // Quicker than by default, so that tests need not wait for minutes.
    evictionPressureTransitionPeriod: '10s',
    volumeStatsAggPeriod: '10s',
    nodeStatusUpdateFrequency: '5s',
    nodeLeaseDurationSeconds: 10,
  };
}

function proxyConfiguration(certificates: Certificates): object {
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode: 'iptables',
    clientConnection: { kubeconfig: certificates.at('proxy.kubeconfig') },
    conntrack: { maxPerCore: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    clusterCIDR: '10.244.0.0/16',
  };
}
