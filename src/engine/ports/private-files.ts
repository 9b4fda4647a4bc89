/** Small files of a process's private directory, each replaced as a whole. */
export interface PrivateFiles {
  /** Undefined when there is none. E_STATE_DIR on failure. */
  read(name: string): Promise<string | undefined>;
  /** Durable when it resolves: it survives a power cut, and a reader sees the old text or the new one. E_STATE_DIR on failure. */
  replace(name: string, text: string): Promise<void>;
}
