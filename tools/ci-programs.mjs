// Installs the programs that some suites need and a new machine may lack, from the system's own package source. Where that is
// not possible it says so and goes on: the suites themselves say loudly what they could not test, and in CI that fails.

import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withLock } from './bootstrap.mjs';

/** Program → Debian package. */
const programs = {
  '/usr/lib/cni/bridge': 'containernetworking-plugins',
  conmon: 'conmon',
  curl: 'curl',
  git: 'git',
  initdb: 'postgresql',
  ip: 'iproute2',
  iptables: 'iptables',
  'mkfs.xfs': 'xfsprogs',
  mmdebstrap: 'mmdebstrap',
  nsenter: 'util-linux',
  openssl: 'openssl',
  pip3: 'python3-pip',
  podman: 'podman',
  'redis-server': 'redis-server',
  runc: 'runc',
  strace: 'strace',
  xfs_io: 'xfsprogs',
};

// Debian keeps PostgreSQL's own programs of several versions beside each other.
const has = (program) =>
  spawnSync('sh', ['-c', `command -v ${program} || ls /usr/lib/postgresql/*/bin/${program}`]).status === 0;

/** Asked by packages whether their servers may start: the tests start their own. */
const policy = '/usr/sbin/policy-rc.d';

/** Runs it while no package may start a server. */
function withoutServers(install) {
  if (existsSync(policy)) return install();
  writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    return install();
  } finally {
    rmSync(policy);
  }
}

// apt lets one at a time in, and the preparation of clusters asks for the same programs beside this.
await withLock(join(tmpdir(), `holdfast-programs-${process.getuid?.() ?? 0}.lock`), () => {
  const missing = Object.keys(programs).filter((program) => !has(program));
  if (missing.length === 0) {
    process.stdout.write('All programs are there.\n');
  } else if (process.getuid?.() !== 0 || !has('apt-get')) {
    process.stdout.write(`Missing, and not to be installed by this user here: ${missing.join(', ')}\n`);
  } else {
    const packages = [...new Set(missing.map((program) => programs[program]))];
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    const args = ['install', '-y', '-q', '--no-install-recommends', ...packages];
    const install = () => withoutServers(() => spawnSync('apt-get', args, { stdio: 'inherit', env }).status);
    if (install() !== 0) {
      spawnSync('apt-get', ['update', '-q'], { stdio: 'inherit', env });
      process.exitCode = install() ?? 1;
    }
  }
});
