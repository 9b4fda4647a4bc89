import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { runNow } from './processes.ts';
import { cgroupsNamed } from './cgroups.ts';
import { clusterPrefix } from './test-cluster.ts';

/** What a cluster could leave on this machine: one line for each thing. */
export function traces(): readonly string[] {
  return [
    ...mounts().map((each) => `mount ${each}`),
    ...readdirSync('/sys/class/net').map((each) => `network device ${each}`),
    ...cgroupsNamed(clusterPrefix).map((each) => `cgroup ${each}`),
    ...readdirSync(tmpdir())
      .filter((each) => each.startsWith(clusterPrefix))
      .map((each) => `directory ${each}`),
    ...processes().map((each) => `process ${each}`),
    ...rules().map((each) => `packet rule ${each}`),
    ...['net/ipv4/ip_forward', 'vm/overcommit_memory', 'vm/panic_on_oom', 'kernel/panic', 'kernel/panic_on_oops'].map(
      (each) => `setting ${each} = ${readFileSync(`/proc/sys/${each}`, 'utf8').trim()}`,
    ),
  ].sort();
}

/** What there is now and was not there before. */
export function newTraces(before: readonly string[]): readonly string[] {
  const known = new Set(before);
  return traces().filter((each) => !known.has(each));
}

function mounts(): readonly string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').trimEnd().split('\n');
  // Without the numbers that the kernel gives them. Whoever else works on this machine mounts other things.
  return lines.map((line) => line.split(' ').slice(3).join(' ')).filter((line) => isOurs.test(line));
}

const isOurs = new RegExp(`${clusterPrefix}|containerd|kubelet|netns|cni`);

/** Processes that know of a cluster's directory by their command line, environment or mounts. */
function processes(): readonly string[] {
  const directory = new RegExp(`${clusterPrefix}\\w+`);
  return readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return [];
    try {
      const known = ['cmdline', 'environ', 'mountinfo']
        .map((each) => readFileSync(`/proc/${pid}/${each}`, 'utf8'))
        .join();
      const [found] = directory.exec(known) ?? [];
      return found === undefined ? [] : [`${readFileSync(`/proc/${pid}/comm`, 'utf8').trim()} of ${found}`];
    } catch {
      // It has ended meanwhile.
      return [];
    }
  });
}

function rules(): readonly string[] {
  try {
    return runNow(['iptables-save'])
      .split('\n')
      .filter((line) => line.startsWith('-A'));
  } catch {
    // Without the program or the right nobody has made any.
    return [];
  }
}
