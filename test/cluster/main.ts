/**
 * `npm run test:cluster`: the scenarios of this folder on a Kubernetes cluster of real parts, which this makes and removes.
 *
 *   npm run cluster -- prepare           installs what such a cluster is made of
 *   npm run cluster -- up [NODES]        makes one that stays, with a store and the image; prints how to work with it
 *   npm run cluster -- down DIRECTORY    removes it
 *   npm run test:cluster [-- FILES]      makes one, runs the scenarios, removes it, and fails when anything is left
 *
 * With KUBECONFIG and HOLDFAST_IMAGE the scenarios run on that cluster, which has to be able to pull that image; those that cut the power of
 * nodes are left out. HOLDFAST_CLUSTER_STORE is the address of an S3 store that this machine and its pods reach, with the
 * keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. With HOLDFAST_CLUSTER_SITE they run on one that `up` has made.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { archiveImages, holdfastImage, imagesIn } from './harness/images.ts';
import { installPrograms } from './harness/install.ts';
import { until } from './harness/processes.ts';
import { programs } from './harness/programs.ts';
import { Site, siteVariable } from './harness/site.ts';
import { startStore, storeAddress } from './harness/store.ts';
import { TestCluster } from './harness/test-cluster.ts';
import { newTraces, traces } from './harness/traces.ts';

const checkout: string = join(import.meta.dirname, '../..');

/** A cluster of ours with everything that the scenarios need. */
async function makeSite(nodes: number, endWithMe: boolean): Promise<Site> {
  const startedMs = performance.now();
  const say = (text: string): void => {
    process.stdout.write(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(6)} s  ${text}\n`);
  };
  await TestCluster.endAbandoned();
  const cluster = await TestCluster.start({ nodes, endWithMe });
  try {
    say(`${nodes} nodes are ready`);
    const place = join(cluster.directory, 'site');
    mkdirSync(join(place, 'objects'), { recursive: true });
    const archive = imagesIn(place);
    archiveImages(archive);
    say('the image is built');
    for (const node of cluster.nodeNames()) cluster.loadImage(node, archive);
    rmSync(archive);
    say('the nodes have the image');
    const site = new Site({
      cluster: cluster.directory,
      kubeconfig: cluster.kubeconfig,
      place,
      apiSocket: join(place, 'api.sock'),
      image: holdfastImage,
      store: {
        address: storeAddress,
        accessKeyId: `TEST${randomBytes(8).toString('hex').toUpperCase()}`,
        secretAccessKey: randomBytes(20).toString('hex'),
      },
    });
    const proxy = ['kubectl', `--kubeconfig=${cluster.kubeconfig}`, 'proxy', `--unix-socket=${site.facts.apiSocket}`];
    await cluster.startOther('api-proxy', proxy, { PATH: programs.path() });
    await until('the proxy of the API', 30, () => existsSync(site.facts.apiSocket) || undefined);
    await startStore(site);
    say('the store is there');
    site.save(join(place, 'site.json'));
    return site;
  } catch (error) {
    process.stderr.write(cluster.lastWords());
    await cluster.end();
    throw error;
  }
}

function task(...args: readonly string[]): void {
  const { status } = spawnSync(process.execPath, ['tools/run.mjs', ...args], {
    cwd: checkout,
    stdio: ['ignore', 2, 2],
  });
  if (status !== 0) throw new Error(`npm run ${args.join(' ')} ended with ${status}`);
}

async function prepare(): Promise<void> {
  await installPrograms();
  task('servers', 'minio');
}

let tests: ChildProcess | undefined;

/** Vitest on the scenarios; its exit code. */
async function runScenarios(siteFile: string, files: readonly string[]): Promise<number> {
  const chosen = files.length > 0 ? files : ['test/cluster'];
  tests = spawn(
    process.execPath,
    ['tools/run.mjs', 'test', '--project', 'cluster', '--no-file-parallelism', ...chosen],
    {
      cwd: checkout,
      stdio: 'inherit',
      env: { ...process.env, [siteVariable]: siteFile },
    },
  );
  return await new Promise((resolve, reject) => {
    tests?.on('error', reject);
    tests?.on('exit', (code) => resolve(code ?? 1));
  });
}

async function testHere(files: readonly string[]): Promise<number> {
  await prepare();
  await TestCluster.endAbandoned();
  const before = traces();
  const site = await makeSite(2, true);
  let code: number;
  try {
    code = await runScenarios(site.at('site.json'), files);
  } finally {
    await site.own?.end();
  }
  const left = newTraces(before);
  if (left.length === 0) return code;
  process.stderr.write(`The cluster is gone and has left:\n${left.map((each) => `  ${each}\n`).join('')}`);
  return code || 1;
}

/** On a cluster of somebody else. */
async function testThere(kubeconfig: string, image: string, files: readonly string[]): Promise<number> {
  const needed = (name: string): string => {
    const value = process.env[name];
    if (value === undefined || value === '')
      throw new Error(`${name} has to be said beside KUBECONFIG and HOLDFAST_IMAGE`);
    return value;
  };
  const store = {
    address: needed('HOLDFAST_CLUSTER_STORE'),
    accessKeyId: needed('AWS_ACCESS_KEY_ID'),
    secretAccessKey: needed('AWS_SECRET_ACCESS_KEY'),
  };
  const place = mkdtempSync(join(tmpdir(), 'holdfast-site-'));
  const apiSocket = join(place, 'api.sock');
  const proxy = spawn('kubectl', ['proxy', `--unix-socket=${apiSocket}`], { stdio: ['ignore', 'ignore', 'inherit'] });
  try {
    await until('the proxy of the API', 30, () => existsSync(apiSocket) || undefined);
    new Site({ kubeconfig, place, apiSocket, image, store }).save(join(place, 'site.json'));
    return await runScenarios(join(place, 'site.json'), files);
  } finally {
    proxy.kill();
    rmSync(place, { recursive: true, force: true });
  }
}

async function test(files: readonly string[]): Promise<number> {
  const { KUBECONFIG: kubeconfig, HOLDFAST_IMAGE: image, [siteVariable]: siteFile } = process.env;
  if (siteFile !== undefined) return await runScenarios(siteFile, files);
  if (kubeconfig !== undefined && image !== undefined) return await testThere(kubeconfig, image, files);
  return await testHere(files);
}

async function up(nodes: number): Promise<void> {
  await prepare();
  const site = await makeSite(nodes, false);
  process.stdout.write(
    `export ${siteVariable}=${site.at('site.json')}      # for npm run test:cluster\n` +
      `nsenter --target=${site.own?.pid} --net env KUBECONFIG=${site.facts.kubeconfig} ${programs.debian('kubectl')} get pods -A\n` +
      `npm run cluster -- down ${site.facts.cluster}\n`,
  );
}

// A second signal while it ends would leave half of it.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => tests?.kill('SIGTERM'));

const [command, ...given] = process.argv.slice(2);
switch (command) {
  case 'prepare':
    await (given.length === 0 ? prepare() : installPrograms(given));
    break;
  case 'up':
    await up(Number(given[0] ?? 2));
    break;
  case 'down':
    await TestCluster.at(given[0] ?? '').end();
    break;
  case 'test':
    process.exitCode = await test(given);
    break;
  default:
    process.stderr.write(
      'npm run cluster -- prepare | up [NODES] | down DIRECTORY;  npm run test:cluster [-- FILES]\n',
    );
    process.exitCode = 2;
}
