// Installs the programs that some suites need and a new machine may lack, from the system's own package source. Where that is
// not possible it says so and goes on: the suites themselves say loudly what they could not test, and in CI that fails.

import { spawnSync } from 'node:child_process';

/** Program → Debian package. */
const programs = {
  conmon: 'conmon',
  'mkfs.xfs': 'xfsprogs',
  mmdebstrap: 'mmdebstrap',
  openssl: 'openssl',
  pip3: 'python3-pip',
  podman: 'podman',
  runc: 'runc',
  strace: 'strace',
  xfs_io: 'xfsprogs',
};

const has = (program) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
const missing = Object.keys(programs).filter((program) => !has(program));
if (missing.length === 0) {
  process.stdout.write('All programs are there.\n');
} else if (process.getuid?.() !== 0 || !has('apt-get')) {
  process.stdout.write(`Missing, and not to be installed by this user here: ${missing.join(', ')}\n`);
} else {
  const packages = [...new Set(missing.map((program) => programs[program]))];
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const install = () =>
    spawnSync('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...packages], { stdio: 'inherit', env })
      .status;
  if (install() !== 0) {
    spawnSync('apt-get', ['update', '-q'], { stdio: 'inherit', env });
    process.exitCode = install() ?? 1;
  }
}
