/**
 * Does what it is told to a directory store, one step after the other, in a process that a test can starve, trace, mount
 * for and kill. Prints one JSON line per step: what came of it.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { openStore } from '../../../../src/edge/store/open-store.ts';
import { isHoldfastError } from '../../../../src/engine/model/errors.ts';
import { contentOf, isWhole } from '../content.ts';

/** `bytes` is the size of the object, and its content that of `contentOf`. */
export type Step =
  | { readonly do: 'create'; readonly key: string; readonly bytes: number }
  | { readonly do: 'upload'; readonly key: string; readonly bytes: number; readonly partBytes: number }
  /** Begins an upload, writes so many bytes and leaves it so. */
  | { readonly do: 'begin'; readonly key: string; readonly bytes: number }
  | { readonly do: 'get'; readonly key: string; readonly bytes: number }
  | { readonly do: 'range'; readonly key: string; readonly length: number }
  | { readonly do: 'list'; readonly prefix: string }
  /** The list of a sweeper. */
  | { readonly do: 'sweep'; readonly prefix: string }
  /** Names in the directory of unfinished objects. */
  | { readonly do: 'temps' }
  /** Opens files until the process may not open more, then gives `spare` back. */
  | { readonly do: 'starve'; readonly spare: number }
  | { readonly do: 'feed' }
  | { readonly do: 'shell'; readonly command: string }
  | { readonly do: 'die' };

export interface StepResult {
  readonly outcome?: string;
  readonly code?: string;
  readonly remedy?: string;
  readonly keys?: readonly string[];
}

const [root, stepsJson] = process.argv.slice(2);
await using store = await openStore(`file:${root}`, 'write');
const starving: number[] = [];

for (const step of JSON.parse(stepsJson!) as Step[]) {
  let result: StepResult;
  try {
    result = await perform(step);
  } catch (error) {
    if (!isHoldfastError(error)) throw error;
    result = { code: error.code, remedy: error.remedy };
  }
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

async function perform(step: Step): Promise<StepResult> {
  switch (step.do) {
    case 'create':
      return { outcome: await store.create(step.key, contentOf(step.key, step.bytes)) };
    case 'upload': {
      const content = contentOf(step.key, step.bytes);
      const upload = await store.beginUpload(step.key);
      for (let at = 0; at < step.bytes; at += step.partBytes)
        await upload.append(content.subarray(at, at + step.partBytes));
      return { outcome: await upload.commit() };
    }
    case 'begin': {
      const upload = await store.beginUpload(step.key);
      await upload.append(contentOf(step.key, step.bytes));
      return { outcome: 'begun' };
    }
    case 'get': {
      const content = await store.get(step.key, { bytesMax: 1e9 });
      if (content === undefined) return { outcome: 'absent' };
      return { outcome: isWhole(step.key, content, step.bytes) ? 'whole' : `wrong, ${content.length} bytes` };
    }
    case 'range':
      return { outcome: `${(await store.getRange(step.key, 0, step.length)).length} bytes` };
    case 'list':
      return { keys: (await store.list(step.prefix)).map(({ key }) => key) };
    case 'sweep': {
      await using sweeper = await openStore(`file:${root}`, 'sweep');
      return { keys: (await sweeper.list(step.prefix)).map(({ key }) => key) };
    }
    case 'temps':
      return { keys: readdirSync(join(root!, 'tmp')) };
    case 'starve':
      try {
        for (;;) starving.push(openSync('/dev/null', 'r'));
      } catch {
        for (const descriptor of starving.splice(0, step.spare)) closeSync(descriptor);
      }
      return { outcome: starving.length > 0 ? 'starved' : 'fed' };
    case 'feed':
      for (const descriptor of starving.splice(0)) closeSync(descriptor);
      return { outcome: 'fed' };
    case 'shell':
      execFileSync('sh', ['-ec', step.command], { stdio: 'inherit' });
      return { outcome: 'done' };
    case 'die':
      process.kill(process.pid, 'SIGKILL');
      return new Promise(() => {});
  }
}
