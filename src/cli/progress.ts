/** One line at a terminal that says how far a long run is; nothing anywhere else. */
import type { Host } from './host.ts';
import { formatBytes, formatCount, formatFiles, formatSeconds, styled } from './print.ts';

export interface ProgressView {
  readonly label: string;
  readonly files: number;
  /** What is counted, in place of files: `objects`. */
  readonly noun?: string;
  readonly bytes: number;
  /** 0 while it is not known. */
  readonly bytesTotal: number;
  readonly filesTotal: number;
  /** Steps of a phase that is about something else than files. */
  readonly steps?: { readonly done: number; readonly total: number } | undefined;
}

export interface Progress {
  /** False where nobody sees it. */
  readonly shown: boolean;
  update(view: ProgressView): void;
  /** Clears the line, so that something else can be written. */
  pause(): void;
  end(): void;
}

const nothing = (): void => undefined;
const redrawMs = 100;
const barWidthMax = 24;
/** A shorter one tells less than the percentage beside it. */
const barWidthMin = 6;

export function showProgress(host: Host, wanted: boolean): Progress {
  const { stderr, clock } = host;
  if (!wanted || !stderr.isTerminal) return { shown: false, update: nothing, pause: nothing, end: nothing };
  const started = clock.monotonicMs();
  let drawn = Number.NEGATIVE_INFINITY;
  let shown = false;
  const clear = (): void => {
    if (shown) stderr.write('\r\x1b[2K');
    shown = false;
  };
  return {
    shown: true,
    update(view: ProgressView): void {
      const now = clock.monotonicMs();
      if (now - drawn < redrawMs) return;
      drawn = now;
      shown = true;
      const columns = Math.max(20, stderr.columns - 1);
      const line = lineOf(view, (now - started) / 1000, columns);
      stderr.write(`\r\x1b[2K${styled(stderr, 'cyan', line.slice(0, columns))}`);
    },
    pause: clear,
    end: clear,
  };
}

/** What stands there says how far it is; the bar takes the columns that are left. */
function lineOf(view: ProgressView, seconds: number, columns: number): string {
  const { label, files, noun, bytes, bytesTotal, filesTotal, steps } = view;
  const rate = seconds > 0 ? bytes / seconds : 0;
  const share =
    steps !== undefined && steps.total > 0
      ? steps.done / steps.total
      : bytesTotal > 0
        ? bytes / bytesTotal
        : filesTotal > 0
          ? files / filesTotal
          : -1;
  const parts: string[] = [];
  if (share >= 0) parts.push(`${Math.floor(Math.min(1, share) * 100)} %`);
  if (steps !== undefined) parts.push(`${formatCount(steps.done)} of ${formatCount(steps.total)}`);
  else {
    parts.push(noun === undefined ? formatFiles(files) : `${formatCount(files)} ${noun}`, formatBytes(bytes));
    if (rate > 0) parts.push(`${formatBytes(rate)}/s`);
  }
  // At first the rate says little; near the end it is over before it is read.
  if (share > 0.02 && share < 1 && seconds > 1) parts.push(`${formatSeconds((seconds * (1 - share)) / share)} left`);
  const figures = parts.join('  ');
  const room = Math.min(barWidthMax, columns - label.length - figures.length - 3);
  if (share < 0 || room < barWidthMin) return `${label}  ${figures}`;
  const full = Math.round(Math.min(1, share) * room);
  return `${label}  ${'█'.repeat(full)}${'░'.repeat(room - full)} ${figures}`;
}
