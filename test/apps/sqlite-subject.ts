/** SQLite in WAL mode: a bank, whose total never changes. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { auditBank, bankTotal } from '../process/bank.ts';
import { Program } from './program.ts';
import type { Subject } from './subject.ts';

const writer: string = fileURLToPath(new URL('../process/children/bank-writer.ts', import.meta.url));
const file = (directory: string): string => join(directory, 'bank.db');

export const sqlite: Subject = {
  name: 'SQLite in WAL mode',
  async start({ volume }) {
    const before = existsSync(file(volume)) ? auditBank(file(volume)).transfers : 0;
    const program = new Program(process.execPath, [writer, file(volume)]);
    await program.printed(/^\d+\n/m);
    return {
      get acknowledged() {
        return before + Number(/(\d+)\n[^\n]*$/.exec(program.output)?.[1]);
      },
      hooks: { program: 'sqlite.mjs', args: [file(volume)] },
      // It has no way to be stopped but signals, as many that use SQLite.
      stop: () => program.stop('SIGTERM').then(),
      kill: () => program.stop('SIGKILL').then(),
      [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
    };
  },
  async check(copy) {
    const audit = auditBank(file(copy));
    expect(audit).toMatchObject({ integrity: 'ok', total: bankTotal, missing: 0 });
    return audit.transfers;
  },
};
