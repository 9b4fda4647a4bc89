import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from './processes.ts';

const root = '/sys/fs/cgroup';

/** A hierarchy for each controller, as cgroup v1 has them, or also the empty one of v2 beside those. */
function hierarchies(): readonly string[] {
  if (existsSync(join(root, 'cgroup.controllers'))) {
    throw new Error(
      'This machine has cgroup v2 alone, which these clusters do not know: use one of your own, such as kind',
    );
  }
  return readdirSync(root).filter((name) => statSync(join(root, name)).isDirectory());
}

/** Makes `parent/name` in all of them, with processors and memory to use, as kubelet wants to find it. */
export function makeCgroup(parent: string, name: string): void {
  for (const hierarchy of hierarchies()) {
    for (const path of [join(root, hierarchy, parent), join(root, hierarchy, parent, name)]) {
      mkdirSync(path, { recursive: true });
      if (hierarchy !== 'cpuset') continue;
      for (const file of ['cpuset.cpus', 'cpuset.mems']) {
        writeFileSync(join(path, file), readFileSync(join(root, hierarchy, file)));
      }
    }
  }
}

/** Removes one and all below it. Its processes are gone, but the kernel may take a moment to see that. */
export async function removeCgroup(path: string): Promise<void> {
  const tops = hierarchies().map((hierarchy) => join(root, hierarchy, path));
  await until(`the removal of the cgroup ${path}`, 20, () => {
    for (const top of tops) removeBelow(top);
    return tops.some((top) => existsSync(top)) ? undefined : true;
  });
}

function removeBelow(path: string): void {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory()) removeBelow(join(path, entry.name));
    }
    rmdirSync(path);
  } catch {
    // Gone, or in use for a moment more: whoever waits looks again.
  }
}

/** Names of those at the top that begin like this. */
export function cgroupsNamed(prefix: string): readonly string[] {
  const found = hierarchies().flatMap((hierarchy) => readdirSync(join(root, hierarchy)));
  return [...new Set(found)].filter((name) => name.startsWith(prefix));
}
