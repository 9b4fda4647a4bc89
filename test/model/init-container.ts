import type { Encoder } from './encoder.ts';
import type { Model, Moves } from './explore.ts';

/**
 * What one pod's init container does to a volume, with its marker, while it is killed, run again, its node rebooted, its private
 * directory lost, and its predecessor commits. The order of restore and claim under collection is the model `rehydrate`, the rule for
 * claims the model `claim rule`; here the log is one number: the newest checkpoint, which the predecessor may raise until it is fenced.
 *
 * Policies are the defaults: a first boot begins empty, missing data blocks.
 */
export type InitBounds = {
  /** The volume is emptied by a reboot. */
  readonly memory: boolean;
  /** What the predecessor has committed before; 0: nothing was ever stored, and there is no predecessor. */
  readonly committed: number;
  /** How often it may still commit. */
  readonly commits: number;
  readonly kills: number;
  readonly reboots: number;
  /** How often the container is run again although the application has started. */
  readonly reruns: number;
  /** How often the private directory may be lost. */
  readonly losses: number;
};

export type InitRules = {
  /** The marker says `started`, durably, before the first byte. */
  readonly startedFirst: boolean;
  /** It says `done` after the last look at the log, not when the claim stands. */
  readonly doneLast: boolean;
  /** What is done is left alone. */
  readonly doneIsLeft: boolean;
  /** A volume in memory is done for the boot in which that was said. */
  readonly memoryNeedsBoot: boolean;
  /** A volume on disk is done for every boot. */
  readonly diskOutlivesBoot: boolean;
  /** Data without a marker is kept when the log holds a CLAIM of this pod, and its first checkpoint is suspect. */
  readonly foundIsKept: boolean;
  readonly keptIsSuspect: boolean;
  /** That a first boot was decided is in the marker, so that the pod's own claim does not make it missing data. */
  readonly firstBootIsRemembered: boolean;
  /** After the claim the newest checkpoint is looked for once more. */
  readonly appliesDifference: boolean;
};

export const initRules: InitRules = {
  startedFirst: true,
  doneLast: true,
  doneIsLeft: true,
  memoryNeedsBoot: true,
  diskOutlivesBoot: true,
  foundIsKept: true,
  keptIsSuspect: true,
  firstBootIsRemembered: true,
  appliesDifference: true,
};

const steps = ['survey', 'choose', 'write', 'claim', 'difference', 'last', 'running', 'refused', 'blocked'] as const;

/** none, half a checkpoint, the checkpoint `version`, or what an application has made of it. */
const contents = ['none', 'half', 'whole', 'application'] as const;

type State = {
  readonly step: (typeof steps)[number];
  readonly content: (typeof contents)[number];
  /** Of a whole content: which checkpoint; 0 for a first boot. */
  readonly version: number;
  readonly marker: 'none' | 'started' | 'done';
  /** The boot that the marker names; 0 without one. */
  readonly markedBoot: number;
  readonly markedFirst: boolean;
  readonly boot: number;
  readonly newest: number;
  readonly claimed: boolean;
  readonly suspect: boolean;
  /** What this run of the container goes on with: its choice, or `kept`. */
  readonly chosen: number;
  readonly kept: boolean;
  /** An application has run on the volume, and nothing has taken that away. */
  readonly appHasRun: boolean;
  readonly commits: number;
  readonly kills: number;
  readonly reboots: number;
  readonly reruns: number;
  readonly losses: number;
};

export function initModel(bounds: InitBounds, rules: InitRules = initRules): Model<State> {
  const { memory } = bounds;
  const toSurvey: Partial<State> = { step: 'survey', chosen: 0, kept: false };

  /** Why an application must not start on what is there; what it cannot know to be whole is suspect. */
  const unfit = ({ content, version, newest, suspect }: State): string | undefined => {
    if (content === 'half' && !suspect) return 'STARTED-HALF: on half a checkpoint';
    if (content === 'whole' && version < newest && !suspect) return `STARTED-STALE: on ${version} of ${newest}`;
    return content === 'none' && newest > 0 ? `STARTED-EMPTY: though ${newest} is there` : undefined;
  };

  const survey = (state: State, next: Moves<State>): void => {
    const { marker, content, boot } = state;
    const sameBoot = (memory ? !rules.memoryNeedsBoot : rules.diskOutlivesBoot) || state.markedBoot === boot;
    if (marker === 'done' && rules.doneIsLeft && sameBoot) {
      const empty = content === 'none' && state.appHasRun;
      const gone = empty ? 'STARTED-EMPTY: what the application had is gone, and nobody brings it back' : undefined;
      next.step('done: left alone, the application starts', started(state), gone ?? unfit(state));
    } else if (marker === 'started' || content === 'none') {
      next.step(`surveyed: ${content === 'none' ? 'fresh' : 'unfinished'}`, { ...state, step: 'choose' });
    } else if (marker === 'done') {
      // Only without the rules: done, and restored all the same.
      next.step('surveyed: done, to be restored again', { ...state, step: 'choose' });
    } else if (!rules.foundIsKept) {
      next.step('surveyed: found, to be restored over', { ...state, step: 'choose' });
    } else if (state.claimed) {
      const suspect = state.suspect || rules.keptIsSuspect;
      next.step('surveyed: found, kept', { ...state, step: 'claim', kept: true, suspect });
    } else {
      next.step('surveyed: found, nobody knows whose', { ...state, step: 'refused' });
    }
  };

  const choose = (state: State, next: Moves<State>): void => {
    const first = state.newest === 0 && (!state.claimed || (rules.firstBootIsRemembered && state.markedFirst));
    if (state.newest === 0 && !first) {
      next.step('only claims: missing data', { ...state, step: 'blocked' });
      return;
    }
    const marked: State = rules.startedFirst
      ? { ...state, marker: 'started', markedBoot: state.boot, markedFirst: first }
      : state;
    next.step(`chosen: ${first ? 'first boot' : state.newest}, marked`, {
      ...marked,
      step: first ? 'claim' : 'write',
      chosen: state.newest,
    });
  };

  const overwritten = ({ content }: State): string | undefined =>
    content === 'application' ? 'OVERWRITTEN: what the application has written' : undefined;

  const write = (state: State, next: Moves<State>): void => {
    const { step, chosen } = state;
    const whole: State = { ...state, content: 'whole', version: chosen, appHasRun: false };
    const half: State = { ...state, content: 'half', version: 0, appHasRun: false };
    if (state.content !== 'half') next.step(`${step}: half of ${chosen}`, half, overwritten(state));
    else next.step(`${step}: ${chosen} is whole`, { ...whole, step: step === 'write' ? 'claim' : 'last' });
  };

  const claim = (state: State, next: Moves<State>): void => {
    const claimed: State = {
      ...state,
      claimed: true,
      ...(rules.doneLast ? {} : { marker: 'done' as const, markedBoot: state.boot }),
    };
    const moved = rules.appliesDifference && !state.kept && state.newest > state.chosen;
    next.step(
      moved ? 'claimed; a newer checkpoint came' : 'claimed; nothing came',
      moved ? { ...claimed, step: 'difference', chosen: state.newest } : { ...claimed, step: 'last' },
    );
  };

  const started = (state: State): State => ({
    ...state,
    step: 'running',
    chosen: 0,
    kept: false,
    content: 'application',
    version: 0,
    appHasRun: true,
  });

  const last = (state: State, next: Moves<State>): void => {
    const done: State = { ...state, marker: 'done', markedBoot: state.boot };
    next.step('last look: the claim stands, the application starts', started(done), unfit(state));
  };

  return {
    initial: {
      step: 'survey',
      content: 'none',
      version: 0,
      marker: 'none',
      markedBoot: 0,
      markedFirst: false,
      boot: 1,
      newest: bounds.committed,
      claimed: false,
      suspect: false,
      chosen: 0,
      kept: false,
      appHasRun: false,
      commits: 0,
      kills: 0,
      reboots: 0,
      reruns: 0,
      losses: 0,
    },

    moves(state, next) {
      const { step } = state;
      if (step === 'survey') survey(state, next);
      else if (step === 'choose') choose(state, next);
      else if (step === 'write' || step === 'difference') write(state, next);
      else if (step === 'claim') claim(state, next);
      else if (step === 'last') last(state, next);
      if (!state.claimed && bounds.committed > 0 && state.commits < bounds.commits) {
        next.fault(`the predecessor commits ${state.newest + 1}`, {
          ...state,
          newest: state.newest + 1,
          commits: state.commits + 1,
        });
      }
      if (step !== 'running' && state.kills < bounds.kills) {
        next.fault('the container is killed, and runs again', { ...state, ...toSurvey, kills: state.kills + 1 });
      }
      if (step === 'running' && state.reruns < bounds.reruns) {
        next.fault('the container runs again', { ...state, ...toSurvey, reruns: state.reruns + 1 });
      }
      if (state.reboots < bounds.reboots) {
        const wiped: Partial<State> = memory ? { content: 'none', version: 0 } : {};
        next.fault('the node reboots', {
          ...state,
          ...toSurvey,
          ...wiped,
          boot: state.boot + 1,
          reboots: state.reboots + 1,
        });
      }
      if (state.losses < bounds.losses) {
        next.fault('the private directory is lost', {
          ...state,
          ...(step === 'running' ? {} : toSurvey),
          marker: 'none',
          markedBoot: 0,
          markedFirst: false,
          suspect: false,
          losses: state.losses + 1,
        });
      }
    },

    broken: () => undefined,

    /** A pod that nobody brings on without a person, although nothing was lost. */
    stuck({ step, losses }) {
      if (step === 'running') return undefined;
      const lost = losses > 0 ? 'its private directory was lost' : 'nothing was lost';
      return `${losses > 0 ? 'ASKS-A-PERSON' : 'NEVER-STARTS'}: ${step}, though ${lost}`;
    },

    encode(state: State, out: Encoder) {
      out.u8(steps.indexOf(state.step));
      out.u8(contents.indexOf(state.content));
      out.u8(state.version);
      out.u8(['none', 'started', 'done'].indexOf(state.marker));
      out.u8(state.markedBoot);
      out.u8(state.boot);
      out.u8(state.newest);
      out.u8(
        (state.markedFirst ? 1 : 0) |
          (state.claimed ? 2 : 0) |
          (state.suspect ? 4 : 0) |
          (state.kept ? 8 : 0) |
          (state.appHasRun ? 16 : 0),
      );
      out.u8(state.chosen);
      out.u8(state.commits);
      out.u8(state.kills);
      out.u8(state.reboots);
      out.u8(state.reruns);
      out.u8(state.losses);
    },
  };
}
