import { fitted, lookOf, painted, type Look } from '../../worker/commands/look.ts';
import type { Screen } from '../../worker/commands/screen.ts';
import { formatBytes, formatDuration, printable } from '../../worker/commands/text.ts';
import { shortened, wrapped } from '../../worker/commands/width.ts';

/** A step that was done, as the result of the demo shows it. */
export interface Step {
  readonly step: string;
  readonly what: string;
  readonly digest: string;
  /** Bytes that were moved. */
  readonly bytes: number;
  readonly ms: number;
}

const INDENT = '    ';
const NO_BREAK = '\u00a0';
/** Lines of a pipe are as long as those of a wide terminal. */
const MOST_COLUMNS = 110;

/** Writes the demo down while it goes on: numbered steps, what workers do, and what came of each step. */
export class Story {
  readonly #screen: Screen;
  readonly #isShown: boolean;
  readonly #look: Look;
  /** Short names of the registries, by what a reference to them begins with. */
  #names: ReadonlyMap<string, string> = new Map();
  #count = 0;

  constructor(screen: Screen, { isShown }: { readonly isShown: boolean }) {
    this.#screen = screen;
    this.#isShown = isShown;
    this.#look = lookOf(screen);
  }

  /** How wide its tables may be. */
  get look(): Look {
    return { ...this.#look, columns: this.#columns - INDENT.length };
  }

  /** Names the registries, so that lines stay short. */
  introduce(names: ReadonlyMap<string, string>): void {
    this.#names = new Map([...names].flatMap(([host, name]) => [[`docker://${host}`, name] as const, [host, name]]));
    for (const [host, name] of names) this.#write(`${INDENT}${name.padEnd(9)} ${host}`);
  }

  begin(title: string): void {
    this.#write(`\n${String(++this.#count).padStart(2)}  ${title}`);
  }

  /** Something below the title of the step. */
  tell(text: string): void {
    for (const line of fitted(text, this.look).split('\n')) this.#write(`${INDENT}${line}`.trimEnd());
  }

  /** A line of what a worker does. */
  heard(worker: string, what: string, how: string): void {
    const room = this.#columns - INDENT.length - worker.length - how.length - 2;
    this.#write(`${INDENT}${worker} ${shortened(this.#named(what), room)} ${how}`);
  }

  end({ what, bytes, ms }: Step): void {
    const moved = `(${bytes === 0 ? '' : `${formatBytes(bytes)} `}in ${formatDuration(ms)})`;
    // a number stays with its unit
    const text = `${what} ${moved.replaceAll(' ', NO_BREAK)}`;
    const lines = wrapped(text, this.#columns - INDENT.length - 3).map((line) => line.replaceAll(NO_BREAK, ' '));
    for (const [index, line] of lines.entries())
      this.#write(`${INDENT}${index === 0 ? `${painted('ok', this.#look)} ` : '   '}${line}`);
  }

  get #columns(): number {
    return Math.min(MOST_COLUMNS, this.#look.columns ?? MOST_COLUMNS);
  }

  #named(text: string): string {
    return [...this.#names].reduce((named, [host, name]) => named.replaceAll(host, name), printable(text));
  }

  #write(line: string): void {
    if (this.#isShown) this.#screen.write(`${line}\n`);
  }
}
