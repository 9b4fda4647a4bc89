/**
 * Anchors as ConfigMaps of Holdfast's own namespace, one for each lineage: no right in any other namespace is needed, and nobody who
 * works in those can change one.
 *
 * Invariant: the slot of an anchor never falls, and with it its digest never changes, however many replicas write: each write names the
 * resourceVersion that it has seen. Only a person takes one away, by deleting its ConfigMap (docs/kubernetes.md, "Anchors"); but for those of
 * Jobs, whose names do not come back.
 */
import { hash } from 'node:crypto';
import { type Anchor, parseAnchor, printAnchor } from '../../engine/model/anchor.ts';
import { equalBytes } from '../../engine/model/bytes.ts';
import { HoldfastError } from '../../engine/model/errors.ts';
import type { LineageName } from '../../engine/model/ids.ts';
import type { Clock } from '../../engine/ports/clock.ts';
import { JsonReader, type Json, MalformedError } from '../json.ts';
import type { KubeAnswer, KubeApi } from '../kube-api.ts';

export interface AnchorStoreParts {
  readonly api: KubeApi;
  readonly clock: Clock;
  /** Where the ConfigMaps are. */
  readonly namespace: string;
}

export interface ReportedAnchor {
  readonly lineage: LineageName;
  readonly anchor: Anchor;
  /** Namespace of the lineage and name of the pod, for people. */
  readonly namespace: string;
  readonly podName: string;
}

/** kept: `anchor` is what is kept now, which may be a newer one. conflict: another record is kept at that slot. */
export interface ReportOutcome {
  readonly outcome: 'kept' | 'conflict';
  readonly anchor: Anchor;
}

interface Kept {
  readonly resourceVersion: string;
  /** Undefined where what is there cannot be read: it says nothing, and the next report replaces it. */
  readonly anchor: Anchor | undefined;
}

interface Waiting {
  readonly signal?: AbortSignal;
}

const roundsMax = 6;
/** A Job that is retried for longer reports in between. */
const jobKeptMs = 7 * 86_400_000;
const pageSize = 250;
/** Lineages whose last write is remembered, so that the next one needs no read. */
const rememberedMax = 4096;

export class AnchorStore {
  readonly #parts: AnchorStoreParts;
  readonly #remembered = new Map<LineageName, Kept>();

  constructor(parts: AnchorStoreParts) {
    this.#parts = parts;
  }

  /** As the API server has it now. E_CLUSTER_UNREACHABLE, E_CLUSTER_REFUSED, E_ABORTED. */
  async find(lineage: LineageName, options: Waiting = {}): Promise<Anchor | undefined> {
    return (await this.#read(lineage, options))?.anchor;
  }

  /** E_CLUSTER_UNREACHABLE, also when others write all the time; E_CLUSTER_REFUSED, E_ABORTED. */
  async report(reported: ReportedAnchor, options: Waiting = {}): Promise<ReportOutcome> {
    const { lineage, anchor } = reported;
    const remembered = this.#remembered.get(lineage);
    // Good for a write, which is refused where somebody else has written since; not for saying that nothing has to be written.
    const isNews = remembered?.anchor !== undefined && remembered.anchor.slot < anchor.slot;
    let kept = isNews ? remembered : await this.#read(lineage, options);
    for (let round = 0; round < roundsMax; round++) {
      const before = kept?.anchor;
      if (before !== undefined && before.slot >= anchor.slot) {
        const contradicts = before.slot === anchor.slot && !equalBytes(before.digest, anchor.digest);
        return { outcome: contradicts ? 'conflict' : 'kept', anchor: before };
      }
      const written = await this.#write(reported, kept, options);
      if (written !== undefined) {
        this.#remember(lineage, written);
        return { outcome: 'kept', anchor };
      }
      this.#remembered.delete(lineage);
      kept = await this.#read(lineage, options);
    }
    throw new HoldfastError('E_CLUSTER_UNREACHABLE', `the anchor of ${lineage} is being written by others`);
  }

  /**
   * Takes away the anchors of Jobs of which nobody has reported for a week: each Job is a workload of its own, and a CronJob would leave
   * one each minute. How many. E_CLUSTER_UNREACHABLE, E_CLUSTER_REFUSED, E_ABORTED.
   */
  async sweep(options: Waiting = {}): Promise<number> {
    const { api, clock, namespace } = this.#parts;
    const oldestMs = clock.nowMs() - jobKeptMs;
    let swept = 0;
    let more = '';
    do {
      const query = `labelSelector=${encodeURIComponent(anchorLabel)}&limit=${pageSize}${more}`;
      const answer = await api.request('GET', `${this.#path}?${query}`, options);
      if (answer.status !== 200) throw refused(answer, 'list configmaps', namespace);
      const { items, next } = pageIn(answer.object);
      for (const { name, resourceVersion, data } of items) {
        if (!isOfJob(data['lineage'] ?? '') || !(Date.parse(data['reportedAt'] ?? '') < oldestMs)) continue;
        // As it was when it was read: a report that came since keeps it.
        const body = { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { resourceVersion } };
        const { status } = await api.request('DELETE', `${this.#path}/${encodeURIComponent(name)}`, {
          ...options,
          body,
        });
        if (status === 200) swept++;
      }
      more = next === undefined ? '' : `&continue=${encodeURIComponent(next)}`;
    } while (more !== '');
    return swept;
  }

  #remember(lineage: LineageName, kept: Kept): void {
    this.#remembered.delete(lineage);
    this.#remembered.set(lineage, kept);
    const [oldest] = this.#remembered.keys();
    if (this.#remembered.size > rememberedMax && oldest !== undefined) this.#remembered.delete(oldest);
  }

  get #path(): string {
    return `/api/v1/namespaces/${encodeURIComponent(this.#parts.namespace)}/configmaps`;
  }

  async #read(lineage: LineageName, options: Waiting): Promise<Kept | undefined> {
    const answer = await this.#parts.api.request('GET', `${this.#path}/${anchorName(lineage)}`, options);
    if (answer.status === 404) return undefined;
    if (answer.status !== 200) throw refused(answer, 'get configmaps', this.#parts.namespace);
    return keptIn(answer.object, lineage);
  }

  /** Undefined when somebody else was faster. */
  async #write(reported: ReportedAnchor, before: Kept | undefined, options: Waiting): Promise<Kept | undefined> {
    const { api, namespace } = this.#parts;
    const body = this.#configMap(reported, before?.resourceVersion);
    const answer =
      before === undefined
        ? await api.request('POST', this.#path, { ...options, body })
        : await api.request('PUT', `${this.#path}/${anchorName(reported.lineage)}`, { ...options, body });
    // Made, changed or deleted since it was read.
    if (answer.status === 409 || (answer.status === 404 && before !== undefined)) return undefined;
    if (answer.status !== 200 && answer.status !== 201) {
      throw refused(answer, before === undefined ? 'create configmaps' : 'update configmaps', namespace);
    }
    return keptIn(answer.object, reported.lineage);
  }

  #configMap({ lineage, anchor, namespace, podName }: ReportedAnchor, resourceVersion: string | undefined): object {
    return {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: {
        name: anchorName(lineage),
        namespace: this.#parts.namespace,
        labels: { 'app.kubernetes.io/managed-by': 'holdfast', [anchorLabel]: namespace },
        ...(resourceVersion === undefined ? {} : { resourceVersion }),
      },
      data: {
        lineage,
        anchor: printAnchor(anchor),
        reportedBy: podName,
        reportedAt: new Date(this.#parts.clock.nowMs()).toISOString(),
      },
    };
  }
}

interface AnchorPage {
  readonly items: readonly {
    readonly name: string;
    readonly resourceVersion: string;
    readonly data: Readonly<Record<string, string>>;
  }[];
  readonly next: string | undefined;
}

function pageIn(object: unknown): AnchorPage {
  try {
    const page = new JsonReader(object as Json, '');
    const items = page.objects('items').map((item) => {
      const metadata = item.object('metadata');
      return {
        name: metadata?.requiredText('name') ?? '',
        resourceVersion: metadata?.requiredText('resourceVersion') ?? '',
        data: item.textMap('data'),
      };
    });
    return { items, next: page.object('metadata')?.text('continue') || undefined };
  } catch (error) {
    if (!(error instanceof MalformedError)) throw error;
    throw new HoldfastError('E_CLUSTER_UNREACHABLE', `the API server answers no list of ConfigMaps: ${error.message}`);
  }
}

/** `CLUSTER/NAMESPACE/job/NAME/INDEX`. */
function isOfJob(lineage: string): boolean {
  return lineage.split('/')[2] === 'job';
}

/** Its value is the namespace of the lineage. */
export const anchorLabel = 'holdfast.dev/anchor-of';

/** Lineages are longer than names may be, and have characters that names have not. */
export function anchorName(lineage: LineageName): string {
  return `holdfast-anchor-${hash('sha256', lineage, 'hex').slice(0, 32)}`;
}

function keptIn(object: unknown, lineage: LineageName): Kept {
  try {
    const reader = new JsonReader(object as Json, '');
    const resourceVersion = reader.object('metadata')?.requiredText('resourceVersion') ?? '';
    const data = reader.textMap('data');
    return { resourceVersion, anchor: data['lineage'] === lineage ? anchorIn(data['anchor'] ?? '') : undefined };
  } catch (error) {
    if (!(error instanceof MalformedError)) throw error;
    throw new HoldfastError('E_CLUSTER_UNREACHABLE', `the API server answers no ConfigMap: ${error.message}`);
  }
}

function anchorIn(text: string): Anchor | undefined {
  try {
    return parseAnchor(text);
  } catch {
    return undefined;
  }
}

function refused({ status }: KubeAnswer, verb: string, namespace: string): HoldfastError {
  if (status === 401 || status === 403) {
    return new HoldfastError(
      'E_CLUSTER_REFUSED',
      `the API server does not let this ServiceAccount ${verb} in ${namespace}`,
    );
  }
  return new HoldfastError('E_CLUSTER_UNREACHABLE', `the API server answers HTTP ${status} to ${verb} in ${namespace}`);
}
