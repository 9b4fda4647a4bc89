/** One line at a terminal that says how far a long run is; nothing anywhere else. */
import type { Host } from './host.ts';
import { formatBytes, formatCount, formatSeconds, styled } from './print.ts';

export interface ProgressView {
  readonly label: string;
  readonly files: number;
  readonly bytes: number;
  /** 0 while it is not known. */
  readonly bytesTotal: number;
  readonly filesTotal: number;
}

export interface Progress {
  update(view: ProgressView): void;
  /** Clears the line, so that something else can be written. */
  pause(): void;
  end(): void;
}

const nothing = (): void => undefined;
const redrawMs = 100;
const barWidth = 24;

export function showProgress(host: Host, wanted: boolean): Progress {
  const { stderr, clock } = host;
  if (!wanted || !stderr.isTerminal) return { update: nothing, pause: nothing, end: nothing };
  const started = clock.monotonicMs();
  let drawn = Number.NEGATIVE_INFINITY;
  let shown = false;
  const clear = (): void => {
    if (shown) stderr.write('\r\x1b[2K');
    shown = false;
  };
  return {
    update(view: ProgressView): void {
      const now = clock.monotonicMs();
      if (now - drawn < redrawMs) return;
      drawn = now;
      shown = true;
      const line = lineOf(view, (now - started) / 1000);
      stderr.write(`\r\x1b[2K${styled(stderr, 'cyan', line.slice(0, Math.max(20, stderr.columns - 1)))}`);
    },
    pause: clear,
    end: clear,
  };
}

function lineOf(view: ProgressView, seconds: number): string {
  const { label, files, bytes, bytesTotal, filesTotal } = view;
  const rate = seconds > 0 ? bytes / seconds : 0;
  const parts = [label];
  const share =
    bytesTotal > 0 ? Math.min(1, bytes / bytesTotal) : filesTotal > 0 ? Math.min(1, files / filesTotal) : -1;
  if (share >= 0) {
    const full = Math.round(share * barWidth);
    parts.push(`${'█'.repeat(full)}${'░'.repeat(barWidth - full)} ${Math.floor(share * 100)} %`);
  }
  parts.push(`${formatCount(files)} files`, formatBytes(bytes));
  if (rate > 0) parts.push(`${formatBytes(rate)}/s`);
  if (share > 0.02 && seconds > 1) parts.push(`${formatSeconds((seconds * (1 - share)) / share)} left`);
  return parts.join('  ');
}
