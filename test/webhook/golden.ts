/** Answers of the webhook as files, to be read in a review: `node test/webhook/golden.ts` writes them anew. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { JsonObject } from '../../src/webhook/json.ts';
import { respond } from '../../src/webhook/respond.ts';
import { applyPatch, type Operation } from '../support/json-patch.ts';
import { type Case, cases } from './cases.ts';
import { settingsOf } from './pods.ts';

const directory = join(import.meta.dirname, 'golden');

export interface Response {
  readonly uid: string;
  readonly allowed: boolean;
  readonly patch?: string;
  readonly patchType?: string;
  readonly warnings?: readonly string[];
  readonly status?: { readonly code: number; readonly message: string };
}

/** The answer as it is, with the patch readable, and beside it the pod that it makes. */
export function goldenOf({ about, settings = {}, review }: Case): object {
  const response = responseOf(JSON.stringify(review), settings);
  const { object } = review['request'] as { readonly object: JsonObject };
  const patch = patchOf(response);
  return {
    about,
    settings,
    review,
    response: { ...response, ...(response.patch === undefined ? {} : { patch }) },
    ...(patch.length === 0 ? {} : { pod: applyPatch(object, patch) }),
  };
}

export function responseOf(body: string, settings: JsonObject = {}): Response {
  const answer = respond(body, settingsOf(settings));
  if (answer.kind !== 'reviewed') throw new Error(answer.message);
  return (JSON.parse(answer.body) as { response: Response }).response;
}

export function patchOf({ patch }: Response): readonly Operation[] {
  return patch === undefined ? [] : JSON.parse(Buffer.from(patch, 'base64').toString());
}

export function goldenFile(name: string): string {
  return join(directory, `${name}.json`);
}

export function readGolden(name: string): unknown {
  return JSON.parse(readFileSync(goldenFile(name), 'utf8'));
}

export function goldenNames(): readonly string[] {
  return readdirSync(directory).map((file) => file.replace(/\.json$/, ''));
}

if (import.meta.main) {
  for (const name of goldenNames()) rmSync(goldenFile(name));
  for (const each of cases) writeFileSync(goldenFile(each.name), `${JSON.stringify(goldenOf(each), null, 2)}\n`);
}
