/**
 * A Kubernetes cluster of real parts on this machine, in namespaces of its own: a control plane, and nodes whose power can be cut, which
 * can be cut off, and which boot again with what was on their disks.
 *
 * - The control plane has a first process. All nodes and all processes are below it: it is killed, and everything is gone, with
 *   every mount, network and rule. What is left are its directory and its cgroups, which `end` removes.
 * - Nothing of this machine is changed: no network, no mount, no setting of the kernel.
 * - The state is a file, so other processes can work with a cluster that one has started. One at a time changes it.
 */
import { randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { makeCgroup, removeCgroup } from './cgroups.ts';
import { Certificates } from './certificates.ts';
import { type ControlPlaneService, controlPlaneCommand, issueControlPlane } from './control-plane.ts';
import { apiServerUrl, controlPlaneAddress, nodeAddress, podNetworkOf } from './network.ts';
import { containerdSocket, type NodePlace, writeNodeFiles } from './node-files.ts';
import {
  allKinds,
  descendantOf,
  end,
  entering,
  isAlive,
  type NamespaceKind,
  type ProcessId,
  runNow,
  startApart,
  unsharing,
  until,
} from './processes.ts';
import { programs } from './programs.ts';

export const clusterPrefix = 'holdfast-cluster-';

export type NodeService = 'containerd' | 'kubelet' | 'kube-proxy';

interface NodeState {
  readonly index: number;
  readonly init: ProcessId;
  readonly services: Readonly<Partial<Record<NodeService, ProcessId>>>;
}

interface ClusterState {
  readonly init: ProcessId;
  readonly nodes: Readonly<Record<string, NodeState>>;
  /** Processes beside the control plane, such as a store, by a name that whoever started them gave. */
  readonly others: Readonly<Record<string, ProcessId>>;
}

export interface StartOptions {
  readonly nodes: number;
  /** Whether the cluster ends when this process does, however that ends. */
  readonly endWithMe: boolean;
}

export class TestCluster {
  readonly directory: string;
  readonly #certificates: Certificates;

  private constructor(directory: string) {
    this.directory = directory;
    this.#certificates = new Certificates(join(directory, 'pki'));
  }

  /** One that runs already. */
  static at(directory: string): TestCluster {
    return new TestCluster(directory);
  }

  /** Starts one, and waits until all nodes are ready and pods may be created. */
  static async start({ nodes, endWithMe }: StartOptions): Promise<TestCluster> {
    const directory = mkdtempSync(join(tmpdir(), clusterPrefix));
    const cluster = new TestCluster(directory);
    try {
      await cluster.#start(nodes, endWithMe);
    } catch (error) {
      process.stderr.write(cluster.lastWords());
      await cluster.end();
      throw error;
    }
    return cluster;
  }

  async #start(nodes: number, endWithMe: boolean): Promise<void> {
    refuseOverlay(this.directory);
    for (const name of ['log', 'nodes', 'etcd']) mkdirSync(this.#at(name), { mode: 0o700 });
    issueControlPlane(this.#certificates, apiServerUrl);
    const first = unsharing([join(import.meta.dirname, 'control-plane.sh')]);
    const outer = startApart(endWithMe ? ['setpriv', '--pdeathsig', 'KILL', '--', ...first] : first, {
      log: this.#log('control-plane'),
      env: { PAUSE: programs.kubernetes('pause') },
    });
    this.#save({ init: await descendantOf(outer, 1), nodes: {}, others: {} });
    await until('the name of the control plane', 10, () =>
      this.run(['hostname']).trim() === 'control-plane' ? true : undefined,
    );
    this.#inNetwork(
      'ip link set lo up',
      'ip link add br0 type bridge',
      `ip addr add ${controlPlaneAddress}/24 dev br0`,
      'ip link set br0 up',
      'echo 1 > /proc/sys/net/ipv4/ip_forward',
    );
    this.#startControlPlane('etcd');
    this.#startControlPlane('kube-apiserver');
    const names = Array.from({ length: nodes }, (_, index) => `n${index + 1}`);
    for (const name of names) await this.boot(name);
    await until('the API server', 120, () => (this.#answers(['get', '--raw', '/readyz']) ? true : undefined));
    // Only now: before, they would find no rights yet, and look again much later.
    this.#startControlPlane('kube-controller-manager');
    this.#startControlPlane('kube-scheduler');
    for (const name of names) await this.isReady(name);
    await until(
      'the default ServiceAccount',
      60,
      () => this.#answers(['get', 'serviceaccount', 'default']) || undefined,
    );
  }

  get kubeconfig(): string {
    return this.#certificates.at('admin.kubeconfig');
  }

  /** Of its first process. */
  get pid(): number {
    return this.#state().init.pid;
  }

  /** Everything that runs in it is gone, and so are its directory and its cgroups. */
  async end(): Promise<void> {
    if (existsSync(this.#at('state.json'))) await end(this.#state().init);
    await removeCgroup(this.#cgroup);
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }

  /** Ends clusters whose own process is gone, as after a kill of whoever ran them. */
  static async endAbandoned(): Promise<void> {
    for (const name of readdirSync(tmpdir()).filter((each) => each.startsWith(clusterPrefix))) {
      const cluster = new TestCluster(join(tmpdir(), name));
      const isThere = existsSync(cluster.#at('state.json'));
      if (isThere && !isAlive(cluster.#state().init)) await cluster.end();
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Commands

  /** Runs a command in the cluster's network, beside the API server, and sees files as they are here. */
  run(command: readonly string[], options: { readonly input?: string; readonly env?: NodeJS.ProcessEnv } = {}): string {
    return runNow(this.inside(command, ['net', 'uts']), options);
  }

  /** The command line for that. */
  inside(command: readonly string[], kinds: readonly NamespaceKind[] = ['net']): readonly string[] {
    return entering(this.#state().init, kinds, command);
  }

  kubectl(args: readonly string[], input?: string): string {
    const command = [programs.debian('kubectl'), `--kubeconfig=${this.kubeconfig}`, ...args];
    return this.run(command, input === undefined ? {} : { input });
  }

  #answers(args: readonly string[]): boolean {
    try {
      this.kubectl(args);
      return true;
    } catch {
      return false;
    }
  }

  /** Starts a process in the control plane's namespaces, where it ends with the cluster. */
  async startOther(name: string, command: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<void> {
    const { init, others } = this.#state();
    const outer = startApart(entering(init, allKinds, command), { log: this.#log(name), env });
    const started = await descendantOf(outer, 1);
    this.#save({ ...this.#state(), others: { ...others, [name]: started } });
  }

  async endOther(name: string): Promise<void> {
    const found = this.#state().others[name];
    if (found !== undefined) await end(found);
  }

  #startControlPlane(service: ControlPlaneService): void {
    const command = controlPlaneCommand(service, this.directory, this.#certificates);
    startApart(entering(this.#state().init, allKinds, command), { log: this.#log(service) });
  }

  #inNetwork(...lines: readonly string[]): void {
    this.run(['sh', '-euc', lines.join('\n')]);
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Nodes

  nodeNames(): readonly string[] {
    return Object.keys(this.#state().nodes);
  }

  /** Switches a node on, for the first time or after a power cut: its disk is as it was, what was in memory is gone. */
  async boot(name: string): Promise<void> {
    const index = Number(name.slice(1));
    const address = nodeAddress(index);
    const place: NodePlace = {
      name,
      index,
      directory: this.#at('nodes', name),
      cgroup: `${this.#cgroup}/${name}`,
    };
    this.#certificates.issue(name, `/O=system:nodes/CN=system:node:${name}`, [`IP:${address}`, `DNS:${name}`]);
    this.#certificates.kubeconfig(name, apiServerUrl);
    makeCgroup(this.#cgroup, name);
    writeNodeFiles(place, this.#certificates);
    // By this the kubelet knows that the node has booted.
    writeFileSync(join(place.directory, 'sysctls', 'kernel.random.boot_id'), `${randomUUID()}\n`);

    const command = unsharing([join(import.meta.dirname, 'node.sh')]);
    const outer = startApart(entering(this.#state().init, ['mount', 'pid'], command), {
      log: this.#log(name),
      env: { NODE: name, NODE_DIRECTORY: place.directory, PAUSE: programs.kubernetes('pause') },
    });
    const init = await descendantOf(outer, 2);
    this.#saveNode(name, { index, init, services: {} });
    this.#inNetwork(
      `ip link del v${name} 2>/dev/null || true`,
      `ip link add v${name} type veth peer name eth0 netns ${init.pid}`,
      `ip link set v${name} master br0 up`,
      `ip route replace ${podNetworkOf(index)} via ${address}`,
    );
    // It has its own /run when it has its name and mounts.
    await until(`the mounts of ${name}`, 10, () =>
      existsSync(`/proc/${init.pid}/root/run`) && readFileSync(`/proc/${init.pid}/comm`, 'utf8').trim() === 'pause'
        ? true
        : undefined,
    );
    const others = [1, 2, 3, 4].filter((each) => each !== index);
    runNow(
      entering(
        init,
        ['net'],
        [
          'sh',
          '-euc',
          [
            'ip link set lo up',
            `ip addr add ${address}/24 dev eth0`,
            'ip link set eth0 up',
            `ip route add default via ${controlPlaneAddress}`,
            ...others.map((each) => `ip route add ${podNetworkOf(each)} via ${nodeAddress(each)}`),
            'echo 1 > /proc/sys/net/ipv4/ip_forward',
          ].join('\n'),
        ],
      ),
    );
    for (const service of ['containerd', 'kubelet', 'kube-proxy'] as const) await this.startService(name, service);
  }

  /** Cuts a node's power: all that runs on it is gone at once. */
  async cutPower(name: string): Promise<void> {
    await end(this.#node(name).init);
    await removeCgroup(`${this.#cgroup}/${name}`);
  }

  /** Cuts a node off from everything but itself: its pods go on. */
  cutNetwork(name: string): void {
    this.#inNetwork(`ip link set v${name} down`);
  }

  mendNetwork(name: string): void {
    this.#inNetwork(
      `ip link set v${name} up`,
      `ip route replace ${podNetworkOf(this.#node(name).index)} via ${nodeAddress(this.#node(name).index)}`,
    );
  }

  async startService(name: string, service: NodeService): Promise<void> {
    const node = this.#node(name);
    const outer = startApart(entering(node.init, allKinds, this.#serviceCommand(name, service)), {
      log: this.#log(`${name}-${service}`),
      env: { PATH: programs.path(), SYSCTLS: this.#at('nodes', name, 'sysctls') },
    });
    const started = await descendantOf(outer, 1);
    this.#saveNode(name, { ...node, services: { ...node.services, [service]: started } });
    if (service === 'containerd') {
      await until(`containerd on ${name}`, 30, () =>
        existsSync(`/proc/${node.init.pid}/root${containerdSocket}`) ? true : undefined,
      );
    }
  }

  async endService(name: string, service: NodeService, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const running = this.#node(name).services[service];
    if (running !== undefined) await end(running, signal);
  }

  /** Runs a command on a node, as on a machine of its own. */
  runOn(name: string, command: readonly string[]): string {
    return runNow(entering(this.#node(name).init, allKinds, command), { env: { PATH: programs.path() } });
  }

  /** An archive as `podman save` writes it. */
  loadImage(name: string, archive: string): void {
    this.#containers(name, ['images', 'import', '--snapshotter=overlayfs', archive]);
  }

  /** The number that a container's first process has on its node; undefined where it does not run. */
  processOf(name: string, containerId: string): string | undefined {
    const line = this.#containers(name, ['tasks', 'ls'])
      .split('\n')
      .find((each) => each.startsWith(containerId));
    return line?.split(/\s+/)[1];
  }

  /** Kills what holds a pod's network and namespaces, as a crash of the runtime may. */
  killSandbox(name: string, podUid: string): void {
    const filter = `labels."io.kubernetes.pod.uid"==${podUid},labels."io.cri-containerd.kind"==sandbox`;
    const id = this.#containers(name, ['containers', 'ls', '--quiet', filter]).trim();
    this.runOn(name, ['kill', '-KILL', this.processOf(name, id) ?? '']);
  }

  #containers(name: string, args: readonly string[]): string {
    return this.runOn(name, ['ctr', `--address=${containerdSocket}`, '--namespace=k8s.io', ...args]);
  }

  async isReady(name: string, seconds = 120): Promise<void> {
    // It is not there before its kubelet has asked for it.
    const wait = ['wait', '--for=condition=Ready', `node/${name}`, '--timeout=2s'];
    await until(`node ${name}`, seconds, () => this.#answers(wait) || undefined);
  }

  #serviceCommand(name: string, service: NodeService): readonly string[] {
    const directory = this.#at('nodes', name);
    switch (service) {
      case 'containerd':
        return [programs.debian('containerd'), `--config=${directory}/containerd.toml`];
      case 'kubelet':
        return [
          // Mounts that it makes are still seen by containerd.
          ...['unshare', '--mount', '--propagation=unchanged', '--', join(import.meta.dirname, 'kubelet.sh')],
          programs.kubernetes('kubelet'),
          `--config=${directory}/kubelet.json`,
          `--kubeconfig=${this.#certificates.at(`${name}.kubeconfig`)}`,
          `--hostname-override=${name}`,
          `--node-ip=${nodeAddress(this.#node(name).index)}`,
          '--v=2',
        ];
      case 'kube-proxy':
        return [
          programs.kubernetes('kube-proxy'),
          `--config=${directory}/kube-proxy.json`,
          `--hostname-override=${name}`,
        ];
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // State

  /** The ends of all logs, for when something went wrong. */
  lastWords(): string {
    const linesMax = 15;
    const logs = existsSync(this.#at('log')) ? readdirSync(this.#at('log')) : [];
    return logs
      .map((name) => {
        const lines = readFileSync(this.#at('log', name), 'utf8').trimEnd().split('\n');
        return `---- ${name}\n${lines.slice(-linesMax).join('\n')}\n`;
      })
      .join('');
  }

  get #cgroup(): string {
    return basename(this.directory);
  }

  #at(...parts: readonly string[]): string {
    return join(this.directory, ...parts);
  }

  #log(name: string): string {
    return this.#at('log', `${name}.log`);
  }

  #state(): ClusterState {
    return JSON.parse(readFileSync(this.#at('state.json'), 'utf8')) as ClusterState;
  }

  #node(name: string): NodeState {
    const node = this.#state().nodes[name];
    if (node === undefined) throw new Error(`there is no node ${name}`);
    return node;
  }

  #save(state: ClusterState): void {
    writeFileSync(this.#at('state.json'), JSON.stringify(state, undefined, 1));
  }

  #saveNode(name: string, node: NodeState): void {
    const state = this.#state();
    this.#save({ ...state, nodes: { ...state.nodes, [name]: node } });
  }
}

/** containerd's own file system cannot lie on another one of its kind, nor on one in memory. */
function refuseOverlay(directory: string): void {
  const types = new Map([
    [0x794c7630, 'overlay'],
    [0x01021994, 'tmpfs'],
  ]);
  const type = types.get(statfsSync(directory).type);
  if (type === undefined) return;
  throw new Error(
    `${directory} is on ${type}, where containers cannot have their files: set TMPDIR to a directory on a disk`,
  );
}
