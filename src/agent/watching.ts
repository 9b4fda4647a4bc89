/** The watchers of the volumes: one each, for as long as the agent lives, whoever holds the lineage. */
import type { VolumeSource } from '../engine/capture/capture-request.ts';
import { WatchedVolume } from '../engine/capture/watched-volume.ts';
import type { Clock } from '../engine/ports/clock.ts';
import type { AgentLog } from './log.ts';
import type { AgentParts } from './parts.ts';
import type { AgentSettings, AgentVolume } from './settings.ts';

/** So often all of the volumes is walked, and what the watchers should have told of and did not is counted. */
const auditMs = 600_000;

export class Watching implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #watched: ReadonlyMap<AgentVolume, WatchedVolume>;
  #auditedMs: number;

  constructor(clock: Clock, watched: ReadonlyMap<AgentVolume, WatchedVolume>) {
    this.#clock = clock;
    this.#watched = watched;
    this.#auditedMs = clock.monotonicMs();
  }

  static async start({ clock, watch }: AgentParts, { volumes }: AgentSettings, log: AgentLog): Promise<Watching> {
    const watched = new Map<AgentVolume, WatchedVolume>();
    for (const volume of volumes) {
      const { name, path } = volume.source;
      const source = await watch(path, (kind, why) =>
        log.info('watching', { volume: name, watcher: kind, ...(why === undefined ? {} : { why }) }),
      );
      watched.set(volume, new WatchedVolume(source));
    }
    return new Watching(clock, watched);
  }

  /** The volume as a capture takes it. */
  sourceOf(volume: AgentVolume): VolumeSource {
    return { ...volume.source, watched: this.#watched.get(volume) };
  }

  /** Which watcher a volume has, and why not a better one. */
  watcherOf(volume: AgentVolume): { readonly kind: string; readonly why: string | null } | undefined {
    const source = this.#watched.get(volume)?.source;
    return source === undefined ? undefined : { kind: source.kind, why: source.why ?? null };
  }

  /** Whether the next capture of all volumes is to walk them, whatever the watchers say. Asked once for each. */
  auditIsDue(): boolean {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#auditedMs < auditMs) return false;
    this.#auditedMs = nowMs;
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { source } of this.#watched.values()) await source.close();
  }
}
