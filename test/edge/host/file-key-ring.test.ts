import { chmod, link, mkdir, mkdtemp, open, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createKeyFile, keyRingFromText, openKeyFile } from '../../../src/edge/host/file-key-ring.ts';
import { systemRandom } from '../../../src/edge/host/system-random.ts';
import { verifySignature } from '../../../src/engine/format/keys.ts';
import { equalBytes } from '../../../src/engine/model/bytes.ts';
import { type ErrorCode, HoldfastError } from '../../../src/engine/model/errors.ts';

let directory: string;
let path: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'key-ring-'));
  path = join(directory, 'key');
});

afterEach(() => rm(directory, { recursive: true }));

async function refusal(code: ErrorCode, work: () => unknown): Promise<HoldfastError> {
  try {
    await work();
  } catch (error) {
    expect(error instanceof HoldfastError && error.code, String(error)).toBe(code);
    return error as HoldfastError;
  }
  throw new Error('was not refused');
}

/** Random bytes that are known, so that a key keeps its bytes. */
function countingRandom() {
  let next = 0;
  return { bytes: (length: number) => Uint8Array.from({ length }, () => next++) };
}

describe('createKeyFile', () => {
  it('makes a file that only its owner may read, whatever the umask, and nothing beside it', async () => {
    const before = process.umask(0o277);
    try {
      await createKeyFile(path, systemRandom);
    } finally {
      process.umask(before);
    }
    expect((await stat(path)).mode & 0o7777).toBe(0o600);
    expect(await readdir(directory)).toEqual(['key']);
  });

  it('makes another key each time, which opens again as the same', async () => {
    const one = await createKeyFile(path, systemRandom);
    const two = await createKeyFile(join(directory, 'other'), systemRandom);
    expect(one.keyId).not.toBe(two.keyId);
    const again = await openKeyFile(path, systemRandom);
    expect(again.keyId).toBe(one.keyId);
    expect(equalBytes(again.publicKey, one.publicKey)).toBe(true);
  });

  it('never overwrites: not a file, a link, a dangling link or a directory', async () => {
    await writeFile(path, 'precious');
    await link(path, join(directory, 'hard'));
    await symlink('nowhere', join(directory, 'dangling'));
    await mkdir(join(directory, 'sub'));
    for (const name of ['key', 'hard', 'dangling', 'sub']) {
      const error = await refusal('E_USAGE', () => createKeyFile(join(directory, name), systemRandom));
      expect(error.message).toContain('never overwritten');
    }
    expect(await readFile(path, 'utf8')).toBe('precious');
    expect((await readdir(directory)).sort()).toEqual(['dangling', 'hard', 'key', 'sub']);
  });

  it('has one winner when several begin at once', async () => {
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => createKeyFile(path, systemRandom)));
    const winners = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    expect(winners).toHaveLength(1);
    expect((await openKeyFile(path, systemRandom)).keyId).toBe(winners[0]?.keyId);
    expect(await readdir(directory)).toEqual(['key']);
  });

  it('says why no file can be made', async () => {
    const error = await refusal('E_USAGE', () => createKeyFile(join(directory, 'missing', 'key'), systemRandom));
    expect(error.message).toContain('ENOENT');
  });
});

describe('openKeyFile', () => {
  it('says when there is none or it cannot be read', async () => {
    expect((await refusal('E_KEY_MISSING', () => openKeyFile(path, systemRandom))).message).toContain('ENOENT');
    expect((await refusal('E_KEY_MISSING', () => openKeyFile(directory, systemRandom))).message).toContain('EISDIR');
  });

  it.each([0o640, 0o604, 0o660, 0o644, 0o620, 0o601])(
    'refuses a file with mode %o, and says how to mend it',
    async (mode) => {
      await createKeyFile(path, systemRandom);
      await chmod(path, mode);
      const error = await refusal('E_KEY_MISSING', () => openKeyFile(path, systemRandom));
      expect(error.message).toContain(`0${mode.toString(8)}`);
      expect(error.remedy).toContain(`chmod 600 ${path}`);
      const said: string[] = [];
      await openKeyFile(path, systemRandom, { onExposed: (message) => said.push(message) });
      expect(said).toEqual([error.message]);
    },
  );

  it.each([0o600, 0o400])('takes a file with mode %o without a word', async (mode) => {
    await createKeyFile(path, systemRandom);
    await chmod(path, mode);
    const fail = (message: string) => {
      throw new Error(message);
    };
    await openKeyFile(path, systemRandom, { onExposed: fail });
  });

  it.each([
    [0o444, true],
    [0o440, true],
    [0o644, true],
    [0o666, false],
  ])('takes a mounted Secret that a container can read by its mode %o: %s', async (mode, isTaken) => {
    const [time, mounted] = [join(directory, '..2026_03_01_12_00_00.1234567890'), join(directory, 'mounted')];
    await mkdir(time);
    await createKeyFile(join(time, 'key'), systemRandom);
    await chmod(join(time, 'key'), mode);
    await symlink('..2026_03_01_12_00_00.1234567890', join(directory, '..data'));
    await symlink('..data/key', mounted);
    if (isTaken) await openKeyFile(mounted, systemRandom);
    else await refusal('E_KEY_MISSING', () => openKeyFile(mounted, systemRandom));
  });

  it('follows a link, as Kubernetes mounts secrets, and looks at the mode of the file itself', async () => {
    await createKeyFile(path, systemRandom);
    await symlink('key', join(directory, 'linked'));
    await openKeyFile(join(directory, 'linked'), systemRandom);
    await chmod(path, 0o644);
    await refusal('E_KEY_MISSING', () => openKeyFile(join(directory, 'linked'), systemRandom));
  });

  it('tells every mistyped character and every cut from a wrong key', async () => {
    const { keyId } = await createKeyFile(path, systemRandom);
    const text = await readFile(path, 'utf8');
    const start = text.indexOf('holdfast-key');
    for (let i = start; i < text.length - 1; i++) {
      for (const typed of ['', 'x', '7', ' ', '-', '#', 'é']) {
        if (typed === text[i]) continue;
        const changed = text.slice(0, i) + typed + text.slice(i + 1);
        let code: string | undefined;
        try {
          keyRingFromText(changed, systemRandom, 'key');
        } catch (error) {
          code = (error as HoldfastError).code;
        }
        // A first character of # makes the line a comment; another version digit is another version.
        expect(['E_KEY_WRONG', 'E_FORMAT_NEWER'], `${i} ${typed}`).toContain(code);
        expect(code === 'E_FORMAT_NEWER').toBe(typed === '7' && text.slice(i - 1, i + 2) === '-1 ');
      }
      await refusal('E_KEY_WRONG', () => keyRingFromText(text.slice(0, i), systemRandom, 'key'));
    }
    // What editors, shells and secrets do to a text.
    const line = text.slice(start);
    for (const same of [
      line,
      line.trimEnd(),
      `\r\n${line.replace('\n', '\r\n')}\r\n`,
      `  ${line}  `,
      `# mine\n${text}`,
    ]) {
      expect(keyRingFromText(same, systemRandom, 'key').keyId).toBe(keyId);
    }
    for (const none of ['', '\n', '# only a comment\n', line + line, 'x'.repeat(10_000), `${text}\nmore`]) {
      await refusal('E_KEY_WRONG', () => keyRingFromText(none, systemRandom, 'key'));
    }
  });

  it('reads a bounded part of whatever it is given', async () => {
    const file = await open(path, 'wx', 0o600);
    await file.truncate(2 ** 40);
    await file.close();
    await refusal('E_KEY_WRONG', () => openKeyFile(path, systemRandom));
  });

  it('keeps its format for good', async () => {
    const ring = await createKeyFile(path, countingRandom());
    expect((await readFile(path, 'utf8')).split('\n').at(-2)).toBe(
      'holdfast-key-1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8 4e8a0eb3',
    );
    expect([ring.keyId, Buffer.from(ring.publicKey).toString('hex')]).toEqual([
      '8950ff639aab66a9',
      '1c03dc69d7088e9412dd17d0cb0959b986fb25fbe59b0c2159511d1a7a0a66a2',
    ]);
    const wrapped = await ring.wrap(Uint8Array.of(1, 2, 3), 'domain team/app');
    expect(Buffer.from(wrapped).toString('hex')).toBe(
      '018950ff639aab66a928292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464719bf658e22b1fabe517e3aae5511bf795b7958',
    );
  });
});

describe('a key ring', () => {
  const secret = Uint8Array.from({ length: 64 }, (_, i) => i);

  it('unwraps what it wrapped, also after it was opened again', async () => {
    const ring = await createKeyFile(path, systemRandom);
    const wrapped = await ring.wrap(secret, 'domain a');
    const again = await openKeyFile(path, systemRandom);
    expect(equalBytes(await again.unwrap(wrapped, 'domain a'), secret)).toBe(true);
    expect(equalBytes(await ring.unwrap(await ring.wrap(new Uint8Array(0), ''), ''), new Uint8Array(0))).toBe(true);
  });

  it('wraps the same secret differently each time', async () => {
    const ring = await createKeyFile(path, systemRandom);
    const texts = new Set<string>();
    for (let i = 0; i < 10; i++) texts.add(Buffer.from(await ring.wrap(secret, 'a')).toString('hex'));
    expect(texts.size).toBe(10);
  });

  it('tells a wrong key from changed bytes and from another context', async () => {
    const ring = await createKeyFile(path, systemRandom);
    const other = await createKeyFile(join(directory, 'other'), systemRandom);
    const wrapped = await ring.wrap(secret, 'domain a');
    const error = await refusal('E_KEY_WRONG', () => other.unwrap(wrapped, 'domain a'));
    expect(error.message).toContain(ring.keyId);
    expect(error.message).toContain(other.keyId);
    await refusal('E_DAMAGED', () => ring.unwrap(wrapped, 'domain b'));
    for (let i = 0; i < wrapped.length; i++) {
      const changed = wrapped.slice();
      changed[i] = (changed[i] as number) ^ 0x10;
      await refusal('E_DAMAGED', () => ring.unwrap(changed, 'domain a'));
    }
    for (const length of [0, 1, 40, 56, wrapped.length - 1]) {
      await refusal('E_DAMAGED', () => ring.unwrap(wrapped.subarray(0, length), 'domain a'));
    }
    await refusal('E_DAMAGED', () => ring.unwrap(new Uint8Array(1_000_000), 'domain a'));
  });

  it('signs with a key that belongs to the repository key', async () => {
    const ring = await createKeyFile(path, systemRandom);
    const message = new TextEncoder().encode('domain key of team/app');
    const signature = await ring.sign(message);
    expect(verifySignature(ring.publicKey, message, signature)).toBe(true);
    expect(verifySignature(ring.publicKey, message.subarray(1), signature)).toBe(false);
    const other = await createKeyFile(join(directory, 'other'), systemRandom);
    expect(verifySignature(other.publicKey, message, signature)).toBe(false);
  });
});
