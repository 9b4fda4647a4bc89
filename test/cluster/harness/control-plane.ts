/** The command lines of the control plane's processes. What is not said is as it is by default. */
import type { Certificates } from './certificates.ts';
import { apiServiceAddress, controlPlaneAddress, serviceNetwork } from './network.ts';
import { programs } from './programs.ts';

export type ControlPlaneService = 'etcd' | 'kube-apiserver' | 'kube-controller-manager' | 'kube-scheduler';

export function controlPlaneCommand(
  service: ControlPlaneService,
  directory: string,
  certificates: Certificates,
): readonly string[] {
  const at = (file: string): string => certificates.at(file);
  switch (service) {
    case 'etcd':
      return [
        programs.debian('etcd'),
        `--data-dir=${directory}/etcd`,
        '--listen-client-urls=http://127.0.0.1:2379',
        '--advertise-client-urls=http://127.0.0.1:2379',
        '--listen-peer-urls=http://127.0.0.1:2380',
        '--log-level=warn',
        // The cluster is gone before any power is.
        '--unsafe-no-fsync',
      ];
    case 'kube-apiserver':
      return [
        programs.kubernetes('kube-apiserver'),
        '--etcd-servers=http://127.0.0.1:2379',
        `--advertise-address=${controlPlaneAddress}`,
        '--secure-port=6443',
        `--tls-cert-file=${at('apiserver.crt')}`,
        `--tls-private-key-file=${at('apiserver.key')}`,
        `--client-ca-file=${at('ca.crt')}`,
        `--service-account-key-file=${at('accounts.pub')}`,
        `--service-account-signing-key-file=${at('accounts.key')}`,
        '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
        `--service-cluster-ip-range=${serviceNetwork}`,
        '--authorization-mode=Node,RBAC',
        '--enable-admission-plugins=NodeRestriction',
        '--allow-privileged=true',
        `--kubelet-client-certificate=${at('apiserver-kubelet.crt')}`,
        `--kubelet-client-key=${at('apiserver-kubelet.key')}`,
        `--kubelet-certificate-authority=${at('ca.crt')}`,
        '--kubelet-preferred-address-types=InternalIP',
        // It picks an endpoint of a webhook's Service itself: no kube-proxy runs beside it.
        '--enable-aggregator-routing=true',
        // By default pods stay for five minutes on a node that is gone.
        '--default-not-ready-toleration-seconds=2',
        '--default-unreachable-toleration-seconds=2',
        '--profiling=false',
        '--v=1',
      ];
    case 'kube-controller-manager':
      return [
        programs.kubernetes('kube-controller-manager'),
        `--kubeconfig=${at('manager.kubeconfig')}`,
        `--root-ca-file=${at('ca.crt')}`,
        `--service-account-private-key-file=${at('accounts.key')}`,
        '--use-service-account-credentials',
        `--cluster-signing-cert-file=${at('ca.crt')}`,
        `--cluster-signing-key-file=${at('ca.key')}`,
        '--leader-elect=false',
        // How soon a node counts as gone: 50 s by default.
        '--node-monitor-grace-period=16s',
        '--node-monitor-period=2s',
        '--profiling=false',
        '--v=1',
      ];
    case 'kube-scheduler':
      return [
        programs.kubernetes('kube-scheduler'),
        `--kubeconfig=${at('scheduler.kubeconfig')}`,
        '--leader-elect=false',
        '--profiling=false',
        '--v=1',
      ];
  }
}

export function issueControlPlane(certificates: Certificates, server: string): void {
  const names = ['', '.default', '.default.svc', '.default.svc.cluster.local'].map((end) => `DNS:kubernetes${end}`);
  certificates.issue('apiserver', '/CN=kube-apiserver', [
    `IP:${controlPlaneAddress}`,
    'IP:127.0.0.1',
    `IP:${apiServiceAddress}`,
    'DNS:localhost',
    ...names,
  ]);
  certificates.issue('apiserver-kubelet', '/O=system:masters/CN=kube-apiserver-kubelet-client');
  const users = {
    admin: '/O=system:masters/CN=admin',
    manager: '/CN=system:kube-controller-manager',
    scheduler: '/CN=system:kube-scheduler',
    proxy: '/CN=system:kube-proxy',
  };
  for (const [name, subject] of Object.entries(users)) {
    certificates.issue(name, subject);
    certificates.kubeconfig(name, server);
  }
}
