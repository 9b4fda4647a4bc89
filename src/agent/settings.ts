/** What an agent is told when it starts: validated by whoever builds it, and never changed. */
import type { CaptureSettings, VolumeSource } from '../engine/capture/capture-request.ts';
import type { Schedule } from '../contract/annotation-parsers.ts';
import type { LineageName } from '../engine/model/ids.ts';

export interface AgentVolume {
  readonly source: VolumeSource;
  /** Undefined: as often as the set. */
  readonly schedule: Schedule | undefined;
  /** Beyond it the pod is evicted; undefined: no limit. */
  readonly bytesMax: number | undefined;
}

export interface HookSettings {
  /** Where the application is asked to hold still before a checkpoint, and let go after it: see hook-caller.ts. */
  readonly pre: string | undefined;
  readonly post: string | undefined;
  /** Of each call. */
  readonly waitMs: number;
}

export interface PostRestoreSettings {
  /** Where the application is told that its volumes were restored. */
  readonly address: string;
  readonly waitMs: number;
}

export interface AgentSettings {
  readonly version: string;
  readonly lineage: LineageName;
  readonly podUid: string;
  readonly volumes: readonly AgentVolume[];
  readonly schedule: Schedule;
  /** The recovery point objective: what is older than this and not durable is a missed promise. */
  readonly objectiveMs: number;
  /** From the first notice of the end to the moment when the process is killed. */
  readonly graceMs: number;
  /** Where the socket is made. */
  readonly socketPath: string;
  /** Undefined: the application is not asked. */
  readonly hooks: HookSettings | undefined;
  /** Undefined: the application is not told. */
  readonly postRestore: PostRestoreSettings | undefined;
  /** On 127.0.0.1, beside the socket. */
  readonly port: number | undefined;
  /** Where the metrics are for a Prometheus outside of the pod; undefined: nowhere. */
  readonly metricsPort: number | undefined;
  /** Until the end of the agent begins; undefined: no limit. */
  readonly uploadBytesPerSecond: number | undefined;
  readonly logLevel: LogLevel;
  readonly capture: Omit<CaptureSettings, 'volumes' | 'carried' | 'final' | 'quiesced' | 'commitUnchanged'>;
}

export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

/** An objective where none was given: three scheduled checkpoints may fail, a minute at least. */
export function defaultObjectiveMs(schedule: Schedule): number {
  return 'cron' in schedule ? 2 * 86_400_000 : Math.max(60_000, 3 * schedule.everyMs);
}
