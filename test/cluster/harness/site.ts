/**
 * Where the scenarios run: a cluster with a store beside it, and the tools of whoever works there. The cluster is one that these tests
 * have made, or any other one.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Api } from './api.ts';
import { runNow } from './processes.ts';
import { programs } from './programs.ts';
import { TestCluster } from './test-cluster.ts';

/** The file that says all of it; whoever runs the tests names it in this variable. */
export const siteVariable = 'HOLDFAST_CLUSTER_SITE';

export interface SiteFacts {
  /** Of a cluster of ours. */
  readonly cluster?: string;
  readonly kubeconfig: string;
  /** A directory for files of the tests. */
  readonly place: string;
  readonly apiSocket: string;
  readonly image: string;
  readonly store: {
    readonly address: string;
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
  };
}

const checkout: string = join(import.meta.dirname, '../../..');

export class Site {
  readonly facts: SiteFacts;
  readonly api: Api;
  /** Whose nodes can be switched off. */
  readonly own: TestCluster | undefined;

  constructor(facts: SiteFacts) {
    this.facts = facts;
    this.api = new Api(facts.apiSocket);
    this.own = facts.cluster === undefined ? undefined : TestCluster.at(facts.cluster);
  }

  static current(): Site {
    const path = process.env[siteVariable];
    if (path === undefined) throw new Error('There is no cluster: these tests are started by npm run test:cluster');
    return new Site(JSON.parse(readFileSync(path, 'utf8')) as SiteFacts);
  }

  /** Writes what `current` reads. */
  save(path: string): void {
    writeFileSync(path, JSON.stringify(this.facts, undefined, 1), { mode: 0o600 });
  }

  at(file: string): string {
    return join(this.facts.place, file);
  }

  get keyFile(): string {
    return this.at('repository.key');
  }

  /** What a person at this cluster has in their shell. */
  environment(): NodeJS.ProcessEnv {
    const { kubeconfig, store } = this.facts;
    const own = this.own === undefined ? [] : [programs.path()];
    return {
      PATH: [join(checkout, 'bin'), dirname(process.execPath), ...own, process.env['PATH']].join(':'),
      KUBECONFIG: kubeconfig,
      HOLDFAST_STORE: store.address,
      HOLDFAST_KEY_FILE: this.keyFile,
      AWS_ACCESS_KEY_ID: store.accessKeyId,
      AWS_SECRET_ACCESS_KEY: store.secretAccessKey,
      AWS_REGION: 'us-east-1',
      AWS_EC2_METADATA_DISABLED: 'true',
      HELM_CACHE_HOME: this.at('helm/cache'),
      HELM_CONFIG_HOME: this.at('helm/config'),
      HELM_DATA_HOME: this.at('helm/data'),
    };
  }

  /** Runs a command where it reaches the cluster and the store. */
  run(command: readonly string[], options: { readonly input?: string; readonly env?: NodeJS.ProcessEnv } = {}): string {
    const line = this.own?.inside(command) ?? command;
    return runNow(line, { ...options, env: { ...this.environment(), ...options.env } });
  }

  kubectl(args: readonly string[], input?: string): string {
    return this.run(['kubectl', ...args], input === undefined ? {} : { input });
  }

  /** Makes objects, or makes them so. */
  apply(...objects: readonly object[]): void {
    this.kubectl(['apply', '--filename=-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
  }
}
