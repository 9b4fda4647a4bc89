/** One scenario's part of the cluster: a namespace with everything that pods need there, and the pods in it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFailed } from 'vitest';
import { agentContainer, rehydrateContainer, stateDirectory } from '../../../src/contract/pod-layout.ts';
import type { AgentStatus } from '../../../src/contract/agent-api.ts';
import { parseReceipt, type RestoreReceipt } from '../../../src/contract/receipt.ts';
import type { Resource } from '../harness/api.ts';
import { until } from '../harness/processes.ts';
import { Site } from '../harness/site.ts';
import { clusterName, credentialsSecret } from './holdfast.ts';
import { type Application, type Kind, workload } from './workloads.ts';

/** What the application says of its data. */
export interface Data {
  readonly digest: string;
  readonly files: number;
  readonly stopped: readonly string[];
  readonly lines: number;
}

/** How long a pod may take to start on two busy cores, restore and all. */
const startSeconds = 120;
let scenes = 0;

export class Scene implements AsyncDisposable {
  readonly site: Site;
  readonly namespace: string;

  private constructor(site: Site, namespace: string) {
    this.site = site;
    this.namespace = namespace;
  }

  /** `labels` are of the namespace. */
  static open(name: string, labels: Readonly<Record<string, string>> = {}): Scene {
    const site = Site.current();
    const scene = new Scene(site, `${name}-${process.pid}-${scenes++}`);
    const { accessKeyId, secretAccessKey } = site.facts.store;
    site.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: scene.namespace, labels } });
    site.apply(
      {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: credentialsSecret, namespace: scene.namespace },
        stringData: {
          credentials: `[default]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\n`,
        },
      },
      {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'application', namespace: scene.namespace },
        data: { 'application.mjs': readFileSync(join(import.meta.dirname, 'application.mjs'), 'utf8') },
      },
    );
    onTestFailed(() => {
      process.stderr.write(scene.report());
    });
    return scene;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Pods that nobody waits for any more need no grace.
    const now = { gracePeriodSeconds: 0, propagationPolicy: 'Background' };
    await this.site.api.delete(`/api/v1/namespaces/${this.namespace}`, now);
  }

  /** Lets a workload have the keys of its checkpoints. */
  grant(kind: Kind, name: string): void {
    const secret = this.site.run([
      ...['holdfast', 'keys', 'grant'],
      ...['--workload', `${clusterName}/${this.namespace}/${kind.toLowerCase()}/${name}`],
    ]);
    this.site.kubectl(['apply', '--filename=-'], secret);
  }

  /** Makes a workload, with its keys; another time with the same name it changes it. */
  run(kind: Kind, app: Omit<Application, 'image'>): void {
    this.grant(kind, app.name);
    const made = workload(kind, { image: this.site.facts.image, ...app }) as { metadata: object };
    this.site.apply({ ...made, metadata: { ...made.metadata, namespace: this.namespace } });
  }

  path(plural: string, name = '', group = 'api/v1'): string {
    return `/${group}/namespaces/${this.namespace}/${plural}${name === '' ? '' : `/${name}`}`;
  }

  /** A pod by its name, when it is ready and none of `not`. */
  async ready(name: string, not: readonly ScenePod[] = []): Promise<ScenePod> {
    const old = new Set(not.map(({ uid }) => uid));
    const found = await this.site.api.until(`${name} to be ready`, this.path('pods', name), startSeconds, (pod) =>
      pod !== undefined && !old.has(pod.metadata.uid) && isReady(pod) ? pod : undefined,
    );
    return new ScenePod(this, found);
  }

  /** The pods of a workload that are ready and none of `not`, when there are so many. */
  async readyOf(
    app: string,
    count: number,
    not: readonly ScenePod[] = [],
    seconds: number = startSeconds,
  ): Promise<readonly ScenePod[]> {
    const old = new Set(not.map(({ uid }) => uid));
    const path = `${this.path('pods')}?labelSelector=app%3D${app}`;
    const found = await this.site.api.until(`${count} pods of ${app}`, path, seconds, (list) => {
      const ready = ((list?.items ?? []) as readonly Resource[]).filter(
        (pod) => !old.has(pod.metadata.uid) && isReady(pod),
      );
      return ready.length >= count ? ready : undefined;
    });
    return found.map((pod) => new ScenePod(this, pod));
  }

  async only(app: string, not: readonly ScenePod[] = []): Promise<ScenePod> {
    const [pod] = await this.readyOf(app, 1, not);
    return pod as ScenePod;
  }

  /** What somebody needs who finds that this scenario has failed. */
  report(): string {
    const ask = (...args: readonly string[]): string => {
      try {
        return this.site.kubectl([...args, `--namespace=${this.namespace}`]);
      } catch (error) {
        return `${String(error)}\n`;
      }
    };
    const names = ask('get', 'pods', '--output=name')
      .split('\n')
      .filter((name) => name !== '');
    const logs = names.flatMap((name) =>
      [rehydrateContainer, agentContainer, 'app'].map(
        (container) => `---- ${name} ${container}\n${ask('logs', name, `--container=${container}`, '--tail=20')}`,
      ),
    );
    return [ask('get', 'pods', '--output=wide'), ask('get', 'events', '--sort-by=.lastTimestamp'), ...logs].join('\n');
  }
}

function isReady(pod: Resource): boolean {
  return (
    pod.metadata.deletionTimestamp === undefined &&
    (pod.status.conditions ?? []).some(({ type, status }: Resource) => type === 'Ready' && status === 'True')
  );
}

/** A pod of a scene, by its UID: another one with its name is another pod. */
export class ScenePod {
  readonly name: string;
  readonly uid: string;
  readonly node: string;
  readonly #scene: Scene;

  constructor(scene: Scene, pod: Resource) {
    this.#scene = scene;
    this.name = pod.metadata.name;
    this.uid = pod.metadata.uid;
    this.node = pod.spec.nodeName;
  }

  get path(): string {
    return this.#scene.path('pods', this.name);
  }

  async now(): Promise<Resource> {
    return await this.#scene.site.api.get(this.path);
  }

  exec(container: string, ...command: readonly string[]): string {
    const namespace = `--namespace=${this.#scene.namespace}`;
    return this.#scene.site.kubectl(['exec', namespace, this.name, `--container=${container}`, '--', ...command]);
  }

  log(container: string): string {
    const namespace = `--namespace=${this.#scene.namespace}`;
    return this.#scene.site.kubectl(['logs', namespace, this.name, `--container=${container}`]);
  }

  /** Lets the application write what a seed says. */
  write(seed: string, files = 20, bytes = 2000): Data {
    return this.#application('write', seed, String(files), String(bytes));
  }

  data(): Data {
    return this.#application('digest');
  }

  #application(...args: readonly string[]): Data {
    return JSON.parse(this.exec('app', 'node', '/application/application.mjs', ...args)) as Data;
  }

  /** Sends a signal to the application. */
  signal(name: 'USR2' | 'HUP'): void {
    this.exec('app', 'sh', '-c', `kill -${name} 1`);
  }

  status(): AgentStatus {
    const args = ['status', '--state-dir', stateDirectory, '--output', 'json'];
    return JSON.parse(this.exec(agentContainer, 'holdfast', ...args)) as AgentStatus;
  }

  /** Lets the agent take a checkpoint, and waits until it is durable. */
  async checkpoint(): Promise<void> {
    await this.statusSays('that it runs', ({ phase }) => phase === 'running');
    const ask = `const { request } = require('node:http');
      const sent = request({ socketPath: '${stateDirectory}/agent.sock', method: 'POST', path: '/v1/checkpoint',
        headers: { 'content-type': 'application/json' } }, (answer) => answer.pipe(process.stdout));
      sent.end('{"wait":true}');`;
    const answer = JSON.parse(this.exec(agentContainer, 'node', '-e', ask));
    if (!['committed', 'unchanged'].includes(answer.outcome))
      throw new Error(`no checkpoint: ${JSON.stringify(answer)}`);
  }

  /** What the restoring container has said at its end. */
  async receipt(): Promise<RestoreReceipt> {
    const status = statusOf(await this.now(), rehydrateContainer);
    const receipt = parseReceipt((status?.state.terminated ?? status?.lastState.terminated)?.message ?? '');
    if (receipt === undefined) throw new Error(`${this.name} has no receipt: ${JSON.stringify(status)}`);
    return receipt;
  }

  async restarts(container: string): Promise<number> {
    return statusOf(await this.now(), container)?.restartCount ?? 0;
  }

  /** The number of a container's first process on its node: of a cluster of ours. */
  async process(container: string): Promise<string> {
    const id = String(statusOf(await this.now(), container)?.containerID).replace('containerd://', '');
    const found = this.#scene.site.own?.processOf(this.node, id);
    if (found === undefined) throw new Error(`${container} of ${this.name} runs nowhere`);
    return found;
  }

  async delete(options: object = {}): Promise<void> {
    await this.#scene.site.api.delete(this.path, { preconditions: { uid: this.uid }, ...options });
  }

  async gone(seconds: number = startSeconds): Promise<void> {
    await this.#scene.site.api.until(`the end of ${this.name}`, this.path, seconds, (pod) =>
      pod === undefined || pod.metadata.uid !== this.uid ? true : undefined,
    );
  }

  /** Waits until the status of a container is as wanted. */
  async container(name: string, what: string, judge: (status: Resource) => boolean): Promise<void> {
    await this.#scene.site.api.until(`${name}: ${what}`, this.path, startSeconds, (pod) => {
      const status = statusOf(pod, name);
      return status !== undefined && judge(status) ? true : undefined;
    });
  }

  async statusSays(what: string, judge: (status: AgentStatus) => boolean): Promise<void> {
    await until(`the agent of ${this.name} to say ${what}`, 60, () => {
      try {
        return judge(this.status()) ? true : undefined;
      } catch {
        // It is not there yet, or not there again.
        return undefined;
      }
    });
  }
}

function statusOf(pod: Resource, container: string): Resource | undefined {
  const all = [...(pod?.status.initContainerStatuses ?? []), ...(pod?.status.containerStatuses ?? [])];
  return all.find(({ name }: Resource) => name === container);
}
