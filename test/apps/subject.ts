/** A real application under test: its server or process, its writers, and the check that it has itself for its files. */
export interface Subject {
  readonly name: string;
  /** Begins with whatever stands in the volume, as after a crash, and has writers at work when it resolves. */
  start(options: StartOptions): Promise<RunningSubject>;
  /**
   * The application's own check of a copy, which it is free to change. Throws when something is wrong with it; answers how many of the
   * writes, which are numbered from 1, it shows.
   */
  check(copy: string): Promise<number>;
}

export interface StartOptions {
  readonly volume: string;
  /** For sockets and logs, outside of the volume. */
  readonly place: string;
  /** Writers rest in between, so that there are moments without change. */
  readonly rests: boolean;
}

export interface RunningSubject extends AsyncDisposable {
  /** How many writes it has acknowledged to its clients so far. */
  readonly acknowledged: number;
  /** The program that answers the agent's hooks for it, and its arguments but for the socket; undefined where there is none. */
  readonly hooks: HookProgram | undefined;
  /** As it is stopped by those who run it; the files are whole afterwards. */
  stop(): Promise<void>;
  /** SIGKILL to all of it at once. */
  kill(): Promise<void>;
}

export interface HookProgram {
  /** In examples/hooks. */
  readonly program: string;
  readonly args: readonly string[];
}
