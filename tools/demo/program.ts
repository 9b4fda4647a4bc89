/** Runs `bin/holdfast` as anybody would. */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const binary = fileURLToPath(new URL('../../bin/holdfast', import.meta.url));

export interface Settings {
  /** A directory for everything, which is gone afterwards. */
  readonly place: string;
  readonly env: NodeJS.ProcessEnv;
}

/** The result of a command, from its JSON. */
export async function holdfast<Result>(settings: Settings, args: readonly string[]): Promise<Result> {
  const { code, stdout, stderr } = await holdfastRaw(settings, args);
  if (code !== 0) throw new Error(`holdfast ${args.join(' ')} ended with exit code ${code}:\n${stderr}`);
  return JSON.parse(stdout) as Result;
}

export async function holdfastRaw(
  settings: Settings,
  args: readonly string[],
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> {
  const child = start(settings, [...args, '--output', 'json'], ['ignore', 'pipe', 'pipe']);
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  return { code, stdout, stderr };
}

export function start(
  { env }: Settings,
  args: readonly string[],
  stdio: ('ignore' | 'pipe' | 'inherit')[] | 'ignore' = 'ignore',
): ChildProcess {
  return spawn(binary, args, { env, stdio });
}

/** Looks again and again, for a minute at most. */
export async function until(what: string, done: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + 60_000; !(await done()); await sleep(2)) {
    if (performance.now() > end) throw new Error(`${what}: not within a minute`);
  }
}
