import type { Clock } from '../util/clock.ts';
import type { Event, Report } from '../util/events.ts';
import { Bars } from './bars.ts';
import { jsonLine, textLine, type LineOptions } from './event-lines.ts';
import { fitted, lookOf, paintedLines } from './look.ts';
import type { Screen } from './screen.ts';
import { widthOf } from './width.ts';

export interface ProgressOptions extends LineOptions {
  readonly clock: Clock;
}

export interface Progress {
  readonly report: Report;
  /** Takes the bars away and ends. */
  stop(): Promise<void>;
}

const REDRAW_MS = 100;
const LINE_EVERY_MS = 10_000;

/** Shows events on `screen` until it is stopped. */
export function startProgress(screen: Screen, options: ProgressOptions): Progress {
  const { clock, style } = options;
  const bars = new Bars(clock.now());
  const stopping = new AbortController();
  let drawn: readonly string[] = [];
  /** What takes the bars away. A terminal that became narrower shows a line of them as several. */
  const erasing = (): string => {
    const rows = drawn.reduce(
      (sum, line) => sum + Math.max(1, Math.ceil(widthOf(line) / Math.max(1, screen.columns))),
      0,
    );
    drawn = [];
    // line by line: tmux keeps a copy of a screen that is erased from its top. It may have written ^C at the cursor
    return rows === 0 ? '' : `\r\u001b[2K${'\u001b[1A\u001b[2K'.repeat(rows)}`;
  };
  const draw = (): void => {
    const lines = bars.lines(clock.now(), { columns: screen.columns - 1, rows: (screen.rows ?? Infinity) - 1 });
    const erased = erasing();
    drawn = lines;
    // one write, so that nothing flickers
    const text = `${erased}${lines.map((line) => `${line}\n`).join('')}`;
    if (text !== '') screen.write(text);
  };
  const show = (event: Event): void => {
    const text = style === 'json' ? jsonLine(event, options) : textLine(event, options);
    if (text === undefined) return;
    const shown = style === 'json' ? text : paintedLines(fitted(text, lookOf(screen)), lookOf(screen));
    screen.write(`${erasing()}${shown}\n`);
  };
  const tick = async (): Promise<void> => {
    const everyMs = style === 'bars' ? REDRAW_MS : LINE_EVERY_MS;
    while (!stopping.signal.aborted) {
      await clock.sleep(everyMs, { signal: stopping.signal }).catch(() => undefined);
      if (stopping.signal.aborted) return;
      if (style === 'bars') draw();
      else if (bars.isActive) screen.write(`${bars.summary(clock.now())}\n`);
    }
  };
  const ticking = style === 'bars' || style === 'lines' ? tick() : Promise.resolve();
  return {
    report: (event) => {
      bars.take(event, clock.now());
      show(event);
    },
    stop: async () => {
      stopping.abort();
      await ticking;
      const erased = erasing();
      if (erased !== '') screen.write(erased);
    },
  };
}
