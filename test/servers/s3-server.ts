import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findServerProgram, type ServerName, serversRequired } from './server-programs.ts';

/** A server on a free port of the loopback interface, with an empty store and credentials that were made up for it. */
export interface S3Server extends AsyncDisposable {
  readonly name: ServerName;
  readonly port: number;
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Where it keeps its data; gone with it. */
  readonly directory: string;
  /** Of the process that runs now. */
  readonly pid: number | undefined;
  /** Kills it, and starts it again on the same port and data after so long. */
  restart(downMs: number): Promise<void>;
}

/** What a server is started with. */
interface Start {
  readonly program: string;
  /** Empty, and gone with the server. */
  readonly directory: string;
  readonly port: number;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

interface Command {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** SeaweedFS takes up to ten seconds; a busy machine is given more. */
const readyMsMax = 50_000;
const pollMs = 50;

const commands: Readonly<Record<ServerName, (start: Start) => Command | Promise<Command>>> = {
  minio: ({ program, directory, port, accessKeyId, secretAccessKey }) => ({
    command: program,
    args: ['server', '--quiet', '--address', `127.0.0.1:${port}`, '--console-address', '127.0.0.1:0', directory],
    env: { MINIO_ROOT_USER: accessKeyId, MINIO_ROOT_PASSWORD: secretAccessKey, MINIO_BROWSER: 'off' },
  }),
  versitygw: ({ program, directory, port, accessKeyId, secretAccessKey }) => ({
    command: program,
    args: [
      ...['--port', `127.0.0.1:${port}`, '--quiet', '--iam-dir', within(directory, 'iam')],
      ...['posix', within(directory, 'data')],
    ],
    env: { ROOT_ACCESS_KEY: accessKeyId, ROOT_SECRET_KEY: secretAccessKey },
  }),
  async seaweedfs({ program, directory, port, accessKeyId, secretAccessKey }) {
    const config = join(directory, 's3.json');
    const credentials = [{ accessKey: accessKeyId, secretKey: secretAccessKey }];
    const actions = ['Admin', 'Read', 'Write', 'List', 'Tagging'];
    writeFileSync(config, JSON.stringify({ identities: [{ name: 'test', credentials, actions }] }), { mode: 0o600 });
    const data = join(directory, 'data');
    mkdirSync(data);
    const ports: string[] = [];
    // Its parts find each other by their ports, and each wants one more for gRPC.
    for (const part of ['master', 'volume', 'filer']) {
      ports.push(`-${part}.port=${await freePort()}`, `-${part}.port.grpc=${await freePort()}`);
    }
    const loopback = ['-ip=127.0.0.1', '-ip.bind=127.0.0.1'];
    const s3 = [
      '-s3',
      '-s3.iam.readOnly=false',
      `-s3.port=${port}`,
      `-s3.port.grpc=${await freePort()}`,
      `-s3.config=${config}`,
    ];
    // Their ports are fixed, and two servers at a time would meet there.
    const without = ['-s3.port.iceberg=0', '-s3.port.lance=0'];
    const small = ['-master.volumeSizeLimitMB=64', '-volume.max=1000'];
    return { command: program, args: ['server', ...loopback, `-dir=${data}`, ...ports, ...s3, ...without, ...small] };
  },
  // Its credentials are fixed and not used: whoever asks may do everything.
  s3rver: ({ program, directory, port }) => ({
    command: process.execPath,
    args: [program, '--address', '127.0.0.1', '--port', String(port), '--directory', directory, '--silent'],
  }),
};

function within(directory: string, name: string): string {
  const path = join(directory, name);
  mkdirSync(path, { recursive: true });
  return path;
}

/**
 * The servers among `names` that are installed. Those that are not are named at the end of the run, by the reporter; in the
 * phase of `.ci/run` that has installed them, a missing one is an error.
 */
export function installedServers(...names: readonly ServerName[]): readonly ServerName[] {
  const missing = names.filter((name) => findServerProgram(name) === undefined);
  if (missing.length > 0 && serversRequired()) throw new Error(`not installed: ${missing.join(', ')}`);
  return names.filter((name) => !missing.includes(name));
}

/** The same for suites that take long: outside of that phase, only the first that is installed. */
export function serversForSuite(...names: readonly ServerName[]): readonly ServerName[] {
  const installed = installedServers(...names);
  return serversRequired() ? installed : installed.slice(0, 1);
}

/**
 * Starts a server and waits until it answers. Ends with an error that says what the server printed when it does not.
 * @param parent where its directory is made
 */
export async function startServer(name: ServerName, parent: string = tmpdir()): Promise<S3Server> {
  const program = findServerProgram(name);
  if (program === undefined) throw new Error(`${name} is not installed: npm run servers ${name}`);
  const directory = mkdtempSync(join(parent, `holdfast-${name}-`));
  // s3rver knows these only.
  const made = name !== 's3rver';
  const accessKeyId = made ? `TEST${randomBytes(8).toString('hex').toUpperCase()}` : 'S3RVER';
  const secretAccessKey = made ? randomBytes(20).toString('hex') : 'S3RVER';
  const port = await freePort();
  const { command, args, env = {} } = await commands[name]({ program, directory, port, accessKeyId, secretAccessKey });
  const run = (): ChildProcess =>
    spawn(command, args, {
      cwd: dirname(directory),
      env: { ...process.env, HOME: directory, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  let child = run();
  let printed = tailOf(child);
  const endpoint = `http://127.0.0.1:${port}`;
  const server: S3Server = {
    name,
    port,
    endpoint,
    accessKeyId,
    secretAccessKey,
    directory,
    get pid() {
      return child.pid;
    },
    async restart(downMs) {
      await end(child);
      await sleep(downMs);
      child = run();
      printed = tailOf(child);
      await ready(child, endpoint);
    },
    async [Symbol.asyncDispose]() {
      await end(child);
      await rm(directory, { recursive: true, force: true, maxRetries: 5 });
    },
  };
  try {
    await ready(child, endpoint);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw new Error(`${name} did not start: ${String(error)}\n${printed()}`, { cause: error });
  }
}

/** Waits for any answer below 500: a refusal of an unsigned request comes from a server that is up. */
async function ready(child: ChildProcess, endpoint: string): Promise<void> {
  const endMs = performance.now() + readyMsMax;
  let last: unknown;
  while (performance.now() < endMs) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error('it has ended');
    try {
      const answer = await fetch(endpoint, { signal: AbortSignal.timeout(2000) });
      await answer.arrayBuffer();
      if (answer.status < 500) return;
      last = answer.status;
    } catch (error) {
      last = error;
    }
    await sleep(pollMs);
  }
  throw new Error(`no answer in ${readyMsMax} ms`, { cause: last });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGKILL');
  await closed;
}

/** The last that a process has printed. */
function tailOf(child: ChildProcess): () => string {
  const charactersMax = 4000;
  let text = '';
  const add = (chunk: Buffer): void => {
    text = (text + chunk.toString()).slice(-charactersMax);
  };
  child.stdout?.on('data', add);
  child.stderr?.on('data', add);
  return () => text;
}

/** Each worker of a test run has ports of its own: a server binds some only seconds after they were found to be free. */
const portsOfWorker = 900;
const portsFirst = 15_000 + (Number(process.env['VITEST_POOL_ID'] ?? 0) % 16) * portsOfWorker;
const portsGiven = new Set<number>();

/**
 * A port that was free a moment ago, and was not given before, below those that the system gives to outgoing connections: one of these would be taken
 * by the server's own connections before it listens there.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = portsFirst + randomInt(portsOfWorker);
    if (portsGiven.has(port)) continue;
    portsGiven.add(port);
    if (portsGiven.size > portsOfWorker / 2) portsGiven.clear();
    const probe = createServer();
    const free = await new Promise<boolean>((resolve) => {
      probe.once('error', () => resolve(false));
      probe.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => probe.close(resolve));
    return port;
  }
}
