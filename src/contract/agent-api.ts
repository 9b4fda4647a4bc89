/**
 * What the agent of a pod says to those beside it: the routes of its socket and the shapes of their bodies. `holdfast notify` and
 * `holdfast status` ask by it, and so may an application.
 */
import type { Consistency } from '../engine/model/checkpoint.ts';
import type { ErrorCode } from '../engine/model/errors.ts';

/** In the state directory. */
export const agentSocketName = 'agent.sock';
/** In the state directory: the status as it was last, for when nobody answers any more. */
export const agentStatusName = 'status.json';

export interface Route {
  readonly method: 'GET' | 'POST';
  readonly path: string;
}

export type AgentRoute =
  | 'status'
  | 'progress'
  | 'receipt'
  | 'health'
  | 'metrics'
  | 'notify'
  | 'checkpoint'
  | 'pause'
  | 'resume';

export const agentRoutes: Readonly<Record<AgentRoute, Route>> = {
  /** An `AgentStatus`. */
  status: { method: 'GET', path: '/v1/status' },
  /** A `CaptureState`, or `null` between two captures. */
  progress: { method: 'GET', path: '/v1/progress' },
  /** The receipt of the last restore; 404 when there was none. */
  receipt: { method: 'GET', path: '/v1/receipt' },
  /** An `AgentHealth`, with 200 while the objective is met, else with 503. Never for a liveness probe: restarting mends no store. */
  health: { method: 'GET', path: '/healthz' },
  /** metrics.ts, as Prometheus reads it. */
  metrics: { method: 'GET', path: '/metrics' },
  /** The pod is about to end: passes follow one another from now on. Answered at once, with 202. */
  notify: { method: 'POST', path: '/v1/notify' },
  /** Takes a checkpoint now; answered with 202 at once, or with `{"wait": true}` by a `TriggerAnswer` when it is done. */
  checkpoint: { method: 'POST', path: '/v1/checkpoint' },
  /** No scheduled checkpoints, for ever or for `{"seconds": N}`. */
  pause: { method: 'POST', path: '/v1/pause' },
  resume: { method: 'POST', path: '/v1/resume' },
};

/** Longer bodies are refused unread. */
export const agentBodyBytesMax = 4096;

/**
 * starting: the store has not answered yet. waiting: somebody who may be alive holds the lineage. running, paused. draining: notified,
 * the end is near. ending: told to stop. fenced: a successor took over. ended: nothing more comes.
 */
export type AgentPhase = 'starting' | 'waiting' | 'running' | 'paused' | 'draining' | 'ending' | 'fenced' | 'ended';

export const agentPhases: readonly AgentPhase[] = [
  'starting',
  'waiting',
  'running',
  'paused',
  'draining',
  'ending',
  'fenced',
  'ended',
];

/** A condition that holds now, with what to do about it. */
export interface AgentProblem {
  readonly code: ErrorCode | AgentWarningCode;
  readonly message: string;
  readonly remedy: string;
  /** ISO 8601. */
  readonly since: string;
}

/** Conditions that are no error: the agent goes on. docs/agent.md lists them. */
export const agentWarnings = {
  W_CACHE:
    'The state directory could not be written: make room in it. Until then passes read everything, and cannot tell whether it moved.',
  W_INCOMPLETE: 'Some files cannot be read by the agent: run it as the user of the application.',
  W_FUZZY: 'The application never paused long enough: use a hook that quiesces it, or a longer --converge-within.',
  W_SUSPECT:
    'Look whether the loss is meant: holdfast ack makes the checkpoint a default restore point; else restore the one before.',
  W_RESTORING: 'The init container has not finished: see its log. The agent waits for it.',
  W_FILL:
    'The volume nears its size limit, beyond which the pod is evicted with a second to live: free space or raise the limit.',
  W_HOOK: 'The application did not answer its hook as it should: see its log. Checkpoints are made without it.',
  W_OBJECTIVE_MISSED:
    'The newest durable state is older than --rpo: see what holds checkpoints up, or raise the objective.',
} as const;

export type AgentWarningCode = keyof typeof agentWarnings;

export interface CheckpointState {
  readonly slot: number;
  /** 64 hexadecimal digits each. */
  readonly id: string;
  readonly digest: string;
  /** ISO 8601: when it became durable. */
  readonly time: string;
  readonly ageSeconds: number;
  readonly consistency: Consistency;
  readonly files: number;
  readonly bytes: number;
}

/** What is in the volumes and not in the newest checkpoint, as far as it was measured. */
export interface UnsavedState {
  readonly bytes: number;
  readonly files: number;
  /** The newest durable checkpoint holds everything up to so long ago. */
  readonly ageSeconds: number;
  /** When bytes and files were counted. */
  readonly measuredSecondsAgo: number;
}

export interface CaptureState {
  readonly reason: CheckpointReason;
  readonly phase: 'scan' | 'read' | 'converge' | 'store' | 'commit';
  readonly pass: number;
  readonly files: number;
  readonly readBytes: number;
  readonly newBytes: number;
  readonly storedBytes: number;
  readonly seconds: number;
}

/** Why a checkpoint was taken. */
export type CheckpointReason =
  | 'start'
  | 'schedule'
  | 'retry'
  | 'trigger'
  | 'drain'
  | 'final'
  /** Before its time: what is unsaved would not fit the grace, the objective would be missed, a volume nears its limit. */
  | 'grace'
  | 'objective'
  | 'fill';

export interface AgentStatus {
  readonly version: 1;
  readonly agent: string;
  readonly phase: AgentPhase;
  readonly lineage: string;
  readonly podUid: string;
  /** True once a successor has taken the lineage over: nothing of this agent becomes visible any more. */
  readonly fenced: boolean;
  /** The newest durable checkpoint of this lineage that this agent knows of; null before the first. */
  readonly newest: CheckpointState | null;
  readonly unsaved: UnsavedState | null;
  readonly objective: { readonly seconds: number; readonly met: boolean };
  /** False from a failed attempt to the next one that succeeds. */
  readonly storeReachable: boolean;
  /** Bytes a second that are sent to the store at most, until the agent is told to stop; null: no limit. */
  readonly uploadLimitBytesPerSecond: number | null;
  readonly problems: readonly AgentProblem[];
  readonly checkpoints: { readonly committed: number; readonly unchanged: number; readonly failed: number };
  /** Seconds until the next scheduled look; null when paused or ending. */
  readonly nextSeconds: number | null;
  readonly capture: CaptureState | null;
  readonly volumes: readonly {
    readonly name: string;
    readonly path: string;
    /** Sum of the sizes of its files when they were counted last; null before. */
    readonly bytes: number | null;
    /** Its size limit; null: none. */
    readonly limitBytes: number | null;
    /** `inotify`, `chokidar`, or `scan` for none, and why not a better one. */
    readonly watcher: { readonly kind: string; readonly why: string | null } | null;
  }[];
  /** What the last restore wrote of itself; null when there was none. */
  readonly receipt: unknown;
}

export interface AgentHealth {
  readonly healthy: boolean;
  /** Everything up to so long ago is durable. */
  readonly durableAgeSeconds: number;
  readonly objectiveSeconds: number;
  readonly problems: readonly AgentProblem[];
}

export interface TriggerAnswer {
  /** unchanged: the newest checkpoint shows the same already. */
  readonly outcome: 'committed' | 'unchanged' | 'failed';
  readonly newest: CheckpointState | null;
}
