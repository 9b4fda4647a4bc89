/** Who else uses a directory: whether an application has stopped is looked up, not believed. */
export interface VolumeUser {
  readonly pid: number;
  /** As the system names it, for people. */
  readonly command: string;
}

export interface VolumeUses {
  /** Other processes that have one of the directories open, mapped, as their working directory, or mounted in a container of theirs. */
  readonly users: readonly VolumeUser[];
  /**
   * True when the application would be among them if it ran: the processes of other containers can be seen, and each that there is was
   * looked at. False says that `users` may be incomplete.
   */
  readonly complete: boolean;
}

export interface VolumeUsers {
  /** Paths are absolute, with symlinks resolved. */
  find(paths: readonly string[]): VolumeUses;
}
