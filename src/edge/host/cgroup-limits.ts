/** What the container of this process may use, by its cgroup: v2, or the controllers of v1. */
import { readFileSync } from 'node:fs';

export interface CgroupLimits {
  /** Processors' worth of time; undefined: no limit, or none that can be read. */
  readonly cpus: number | undefined;
  readonly memoryBytes: number | undefined;
}

/** v1 says "no limit" by a number near 2^63, rounded to pages. */
const noLimitBytes: number = 2 ** 62;

/** `root` is where cgroups are mounted: in a container its own group, so nothing has to be looked up. */
export function cgroupLimits(root = '/sys/fs/cgroup'): CgroupLimits {
  const read = (path: string): string | undefined => {
    try {
      return readFileSync(`${root}/${path}`, 'latin1').trim();
    } catch {
      return undefined;
    }
  };
  const number = (text: string | undefined): number | undefined =>
    text !== undefined && /^\d+$/.test(text) && Number(text) < noLimitBytes ? Number(text) : undefined;
  const [quota, period] = read('cpu.max')?.split(' ') ?? [read('cpu/cpu.cfs_quota_us'), read('cpu/cpu.cfs_period_us')];
  const [quotaUs, periodUs] = [number(quota), number(period)];
  return {
    cpus: quotaUs === undefined || periodUs === undefined || periodUs === 0 ? undefined : quotaUs / periodUs,
    memoryBytes: number(read('memory.max')) ?? number(read('memory/memory.limit_in_bytes')),
  };
}
