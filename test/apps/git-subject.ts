/** A git repository under commits, with garbage collection now and then. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { programPath, ran } from './program.ts';
import type { Subject } from './subject.ts';

const env: NodeJS.ProcessEnv = {
  PATH: process.env['PATH'],
  HOME: '/nonexistent',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'a',
  GIT_AUTHOR_EMAIL: 'a@localhost',
  GIT_COMMITTER_NAME: 'a',
  GIT_COMMITTER_EMAIL: 'a@localhost',
};

function git(directory: string, ...args: string[]): Promise<string> {
  return ran(programPath('git'), args, { cwd: directory, env });
}

/** What git says after a crash that one has to remove: locks of commands that were under way. */
function removeLocks(directory: string): void {
  for (const entry of readdirSync(join(directory, '.git'), { recursive: true, withFileTypes: true })) {
    if (entry.isFile() && /\.(lock|pid)$/.test(entry.name)) rmSync(join(entry.parentPath, entry.name));
  }
}

/** All commits are there, and each follows the one before. */
async function count(directory: string): Promise<number> {
  const refs = await git(directory, 'for-each-ref');
  if (refs === '') return 0;
  const subjects = (await git(directory, 'log', '--reverse', '--format=%s')).split('\n');
  expect(subjects).toEqual(subjects.map((_, i) => `commit ${i + 1}`));
  return subjects.length;
}

export const gitRepository: Subject = {
  name: 'a git repository under commits',
  async start({ volume, rests }) {
    if (!existsSync(join(volume, '.git'))) {
      await git(volume, 'init', '--quiet', '--initial-branch=main');
      await git(volume, 'config', 'gc.auto', '60');
      await git(volume, 'config', 'gc.autoDetach', 'false');
    }
    removeLocks(volume);
    let acknowledged = await count(volume);
    let over = false;
    let running: ReturnType<typeof spawn> | undefined;
    // One shell for each commit, so that a kill meets all that it has started.
    const script = 'git add --all && exec git commit --quiet --message "$1"';
    const writing = (async () => {
      while (!over) {
        const n = acknowledged + 1;
        writeFileSync(join(volume, `file-${n % 40}`), `content of commit ${n}\n`.repeat(1 + (n % 50)));
        appendFileSync(join(volume, 'journal'), `commit ${n}\n`);
        running = spawn('sh', ['-c', script, 'sh', `commit ${n}`], {
          cwd: volume,
          env,
          stdio: 'ignore',
          detached: true,
        });
        const [code] = (await once(running, 'close')) as [number | null];
        if (code === 0) acknowledged = n;
        else if (!over) throw new Error(`git commit ended with ${code}`);
        if (rests) await sleep(n % 4 === 0 ? 700 : 50);
      }
    })();
    const end = async (kill: boolean): Promise<void> => {
      over = true;
      if (kill && running?.pid !== undefined && running.exitCode === null) process.kill(-running.pid, 'SIGKILL');
      await writing;
    };
    return {
      get acknowledged() {
        return acknowledged;
      },
      hooks: undefined,
      stop: () => end(false),
      kill: () => end(true),
      [Symbol.asyncDispose]: () => end(true),
    };
  },
  async check(copy) {
    removeLocks(copy);
    await git(copy, 'fsck', '--full', '--strict', '--no-dangling');
    const commits = await count(copy);
    // The next commit can be made.
    await git(copy, 'add', '--all');
    await git(copy, 'commit', '--quiet', '--allow-empty', '--message', 'after the restore');
    return commits;
  },
};
