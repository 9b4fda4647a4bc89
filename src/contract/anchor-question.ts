/**
 * The anchors of a namespace's lineages, as its pods report them to Holdfast's service in the cluster and ask for them.
 *
 *   POST <service>/v1/anchors/find      an init container, before it reads a log
 *   POST <service>/v1/anchors/report    an agent, after a commit
 *
 * Both with `Authorization: Bearer <the pod's own bound token>`. A pod asks about its own namespace, and reports about its own workload.
 * As with the question for a pod, an answer repeats what was asked, so one that something between has kept is taken for none.
 */
import { type Anchor, parseAnchor, printAnchor } from '../engine/model/anchor.ts';
import { type LineageName, toLineageName } from '../engine/model/ids.ts';
import { asObject, asText } from './plain-json.ts';

export const anchorFindPath = '/v1/anchors/find';
export const anchorReportPath = '/v1/anchors/report';

export interface AnchorQuestion {
  readonly version: 1;
  /** 32 hexadecimal digits, new for each question. */
  readonly question: string;
  readonly lineage: LineageName;
}

export interface AnchorReport extends AnchorQuestion {
  readonly anchor: Anchor;
}

/** Of both: what is kept now; null: nothing. */
export interface AnchorAnswer {
  readonly version: 1;
  readonly question: string;
  readonly lineage: string;
  readonly anchor: string | null;
}

export function printAnchorQuestion({ version, question, lineage }: AnchorQuestion): string {
  return JSON.stringify({ version, question, lineage });
}

export function printAnchorReport({ version, question, lineage, anchor }: AnchorReport): string {
  return JSON.stringify({ version, question, lineage, anchor: printAnchor(anchor) });
}

/** Undefined when it is none. */
export function parseAnchorQuestion(text: string): AnchorQuestion | undefined {
  return orUndefined(() => questionIn(asObject(JSON.parse(text))));
}

/** Undefined when it is none. */
export function parseAnchorReport(text: string): AnchorReport | undefined {
  return orUndefined(() => {
    const plain = asObject(JSON.parse(text));
    return { ...questionIn(plain), anchor: parseAnchor(asText(plain['anchor'])) };
  });
}

function questionIn(plain: Readonly<Record<string, unknown>>): AnchorQuestion {
  const question = asText(plain['question']);
  if (plain['version'] !== 1 || !/^[0-9a-f]{32}$/.test(question)) throw new TypeError('no question');
  return { version: 1, question, lineage: toLineageName(asText(plain['lineage'])) };
}

/** What is kept, null for nothing; undefined unless `text` is a whole answer to that question. */
export function readAnchorAnswer(text: string, asked: AnchorQuestion): Anchor | null | undefined {
  return orUndefined(() => {
    const plain = asObject(JSON.parse(text));
    const mine = plain['version'] === 1 && plain['question'] === asked.question && plain['lineage'] === asked.lineage;
    if (!mine) return undefined;
    return plain['anchor'] === null ? null : parseAnchor(asText(plain['anchor']));
  });
}

/** Whatever is wrong with it: what others send is not an error of this program. */
function orUndefined<Value>(read: () => Value): Value | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
