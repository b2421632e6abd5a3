import type { Ends } from './operations/ends.ts';
import type { Access } from './plan/rule.ts';
import { orAborted, type Abortable } from './util/abort.ts';
import type { Clock } from './util/clock.ts';

/** Ends for one job after another, by what the rules say of registries now. */
export interface CurrentEnds extends AsyncDisposable {
  /** Runs `work` with ends that stay open until it ends. */
  use<T>(work: (ends: Ends) => Promise<T>, o?: Abortable): Promise<T>;
}

export interface CurrentEndsOptions {
  /** What the rules say now: a text that is the same for what is the same. */
  readonly access: () => Promise<string>;
  readonly parse: (text: string) => Access;
  readonly connect: (access: Access) => Ends & AsyncDisposable;
  readonly clock: Clock;
}

/** How long a change of the rules may take to be noticed. */
const ACCESS_REUSE_MS = 30_000;
/** Ends remember every repository that they met. */
const MAX_USES = 1000;

interface Held {
  readonly ends: Ends & AsyncDisposable;
  readonly text: string;
  uses: number;
  using: number;
}

/**
 * Jobs share connections, tokens and what was learnt of registries, for as long as the rules say the same of them. There are at most as many
 * ends open as jobs under way, and one more. Closing ends all, whoever uses them.
 */
export function currentEnds(o: CurrentEndsOptions): CurrentEnds {
  const open = new Set<Held>();
  let current: Held | undefined;
  let read: { readonly text: Promise<string>; readonly untilMs: number } | undefined;

  /** Read without the signal of whoever came first, since others wait for the same. */
  const textNow = (): Promise<string> => {
    if (read !== undefined && read.untilMs > o.clock.now()) return read.text;
    const begun = { text: o.access(), untilMs: o.clock.now() + ACCESS_REUSE_MS };
    read = begun;
    begun.text.catch(() => {
      if (read === begun) read = undefined;
    });
    return begun.text;
  };

  const closeIfUnused = async (held: Held | undefined): Promise<void> => {
    if (held === undefined || held.using > 0 || held === current || !open.delete(held)) return;
    await held.ends[Symbol.asyncDispose]();
  };

  return {
    use: async (work, at = {}) => {
      const text = await orAborted(textNow(), at);
      let held = current;
      if (held === undefined || held.text !== text || held.uses >= MAX_USES) {
        const before = held;
        held = current = { ends: o.connect(o.parse(text)), text, uses: 0, using: 0 };
        open.add(held);
        await closeIfUnused(before);
      }
      held.uses++;
      held.using++;
      try {
        return await work(held.ends);
      } finally {
        held.using--;
        await closeIfUnused(held);
      }
    },
    [Symbol.asyncDispose]: async () => {
      const all = [...open];
      open.clear();
      current = undefined;
      await Promise.all(all.map(async ({ ends }) => ends[Symbol.asyncDispose]()));
    },
  };
}
