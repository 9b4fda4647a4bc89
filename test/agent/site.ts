/** Places for agents whose store, a directory or a bucket, can be taken away, filled, and brought back. */
import { renameSync } from 'node:fs';
import { type S3Server, startServer } from '../servers/s3-server.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { Tmpfs } from '../support/tmpfs.ts';
import { AgentPlace } from './agent-process.ts';

export interface Site extends AsyncDisposable {
  readonly place: AgentPlace;
  down(): void;
  up(): void;
  /** From now on there is no room in the store, until `up`. A directory gets a file system of its own for that: for root alone. */
  full(): void;
}

/** The servers of one suite, each started when it is first asked for. */
export class Sites implements AsyncDisposable {
  readonly #servers = new Map<string, Promise<S3Server>>();

  /** `file`, or the name of a server. */
  async on(store: string): Promise<Site> {
    return store === 'file' ? await inDirectory() : await this.#inBucket(store as S3Server['name']);
  }

  async #inBucket(name: S3Server['name']): Promise<Site> {
    const starting = this.#servers.get(name) ?? startServer(name);
    this.#servers.set(name, starting);
    const server = await starting;
    const proxy = await FaultProxy.start(server.port);
    // Little patience, so that a test sees more than one attempt of the agent.
    const place = await AgentPlace.make({ ...server, endpoint: `${proxy.endpoint}&patience-seconds=2` });
    return {
      place,
      down: () => {
        proxy.rule = () => ({ kind: 'drop' });
      },
      up: () => {
        proxy.rule = () => undefined;
      },
      full: () => {
        proxy.rule = ({ method }) =>
          method === 'PUT' ? { kind: 'answer', status: 507, code: 'XMinioStorageFull' } : undefined;
      },
      async [Symbol.asyncDispose]() {
        place[Symbol.dispose]();
        await proxy[Symbol.asyncDispose]();
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers.values()) await (await server)[Symbol.asyncDispose]();
  }
}

async function inDirectory(): Promise<Site> {
  const place = await AgentPlace.make();
  const [here, away] = [place.work.at('store'), place.work.at('away')];
  let small: Tmpfs | undefined;
  return {
    place,
    down: () => renameSync(here, away),
    up: () => {
      if (small === undefined) renameSync(away, here);
      else small.makeRoom();
    },
    full: () => {
      small ??= Tmpfs.over(here, 32);
      small.fill();
    },
    async [Symbol.asyncDispose]() {
      small?.[Symbol.dispose]();
      place[Symbol.dispose]();
    },
  };
}
