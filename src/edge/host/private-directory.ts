/** A private directory on the local disk, and files in it that are replaced whole and durable. */
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { HoldfastError } from '../../engine/model/errors.ts';
import type { PrivateFiles } from '../../engine/ports/private-files.ts';

export class PrivateDirectory implements PrivateFiles {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  read(name: string): Promise<string | undefined> {
    return readText(join(this.path, name));
  }

  replace(name: string, text: string): Promise<void> {
    return replaceText(join(this.path, name), text);
  }
}

/** Undefined when there is no such file. E_STATE_DIR on failure. */
export async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new HoldfastError('E_STATE_DIR', `cannot read ${path}`, { cause });
  }
}

/** Makes the directory when it is missing. E_STATE_DIR on failure. */
export async function replaceText(path: string, text: string): Promise<void> {
  const unfinished = `${path}.new`;
  try {
    await makeDirectory(dirname(path));
    const file = await open(unfinished, 'w', 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(unfinished, path);
    await syncDirectory(dirname(path));
  } catch (cause) {
    throw new HoldfastError('E_STATE_DIR', `cannot write ${path}`, { cause });
  }
}

/** Makes the directory and makes its name durable, and those of all parents that were missing. */
async function makeDirectory(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let made = path; made.length >= first.length; made = dirname(made)) await syncDirectory(dirname(made));
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
