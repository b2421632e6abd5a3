import type { Event } from '../util/events.ts';
import { formatBytes, formatDigest, formatDuration, printable } from './text.ts';
import { cut, padded, shortened, widthOf } from './width.ts';

/** What there is room for. */
interface Room {
  readonly columns: number;
  readonly rows: number;
}

/** A blob that is on its way. */
interface Active {
  readonly name: string;
  readonly image: string | undefined;
  readonly bytes: number;
  readonly speed: Speed;
  done: number;
}

/** What is known of the work by its events, and the bars that show it. */
export class Bars {
  readonly #active = new Map<string, Active>();
  readonly #speed: Speed;
  #plannedBytes = 0;
  #settledBytes = 0;
  readonly #images = { planned: 0, done: 0 };
  /** The images of which it is known how much there is to do. */
  readonly #seen = new Set<string | undefined>();

  constructor(nowMs: number) {
    this.#speed = new Speed(nowMs);
  }

  get isActive(): boolean {
    return this.#active.size > 0;
  }

  take(event: Event, nowMs: number): void {
    if (event.type === 'images-planned') this.#images.planned += event.images;
    else if (event.type === 'image-done') {
      this.#images.done++;
      this.#seen.add(event.image);
    } else if (event.type === 'planned') {
      this.#plannedBytes += event.bytes;
      this.#seen.add(event.image);
    } else if (event.type === 'blob-started') {
      const { image, bytes } = event;
      const name = formatDigest(event.digest);
      // a second start of the same blob is a retry from its beginning
      this.#active.set(keyOf(event), { name, image, bytes, speed: new Speed(nowMs), done: 0 });
    } else if (event.type === 'blob-progress') this.#moved(event, nowMs);
    else if (event.type === 'blob-done') {
      this.#active.delete(keyOf(event));
      if (event.outcome !== 'foreign') this.#settledBytes += event.bytes;
    }
  }

  #moved(event: Extract<Event, { readonly type: 'blob-progress' }>, nowMs: number): void {
    const blob = this.#active.get(keyOf(event));
    if (blob !== undefined) {
      blob.done += event.bytes;
      blob.speed.add(event.bytes, nowMs);
    }
    this.#speed.add(event.bytes, nowMs);
  }

  /** The bars of each image below its name, and below them all of it. What there is no room for is counted. */
  lines(nowMs: number, { columns, rows }: Room): readonly string[] {
    if (!this.isActive) return [];
    const below: string[] = [];
    const images = Map.groupBy(this.#active.values(), ({ image }) => image);
    for (const [image, blobs] of images) {
      if (image !== undefined) below.push(shortened(printable(image), columns));
      const indent = image === undefined ? '' : '  ';
      for (const blob of blobs)
        below.push(bar(`${indent}${blob.name}`, blob, { columns, perSecond: blob.speed.perSecond(nowMs) }));
    }
    const overall = this.#overall(nowMs, columns);
    const most = Math.max(1, rows - overall.length);
    if (below.length <= most) return [...below, ...overall];
    return [...below.slice(0, most - 1), `… ${this.#active.size} blobs at once`, ...overall];
  }

  summary(nowMs: number): string {
    const { done } = this.#images;
    // what has no tag is found to be an image of its own late
    const planned = Math.max(done, this.#images.planned);
    const perSecond = this.#speed.perSecond(nowMs);
    const left = this.#left(perSecond);
    const parts = [
      ...(planned > 0 ? [`${done} of ${planned} images`] : []),
      `${formatBytes(this.#done())} of ${formatBytes(this.#plannedBytes)}`,
      `${formatBytes(perSecond)}/s`,
      ...(left === undefined ? [] : [`${left} left`]),
    ];
    return `progress: ${parts.join(', ')}`;
  }

  #overall(nowMs: number, columns: number): readonly string[] {
    if (this.#plannedBytes === 0) return [];
    const { done: images } = this.#images;
    const planned = Math.max(images, this.#images.planned);
    const name = planned > 0 ? `${images} of ${planned} images` : 'in all';
    const perSecond = this.#speed.perSecond(nowMs);
    const all = { done: this.#done(), bytes: this.#plannedBytes };
    return [bar(name, all, { columns, perSecond, left: this.#left(perSecond) ?? '' })];
  }

  /** The time that is left; undefined while it is not known how much there is to do, or nothing moves. */
  #left(perSecond: number): string | undefined {
    return this.#images.planned > this.#seen.size ? undefined : timeLeft(this.#plannedBytes - this.#done(), perSecond);
  }

  #done(): number {
    return [...this.#active.values()].reduce((sum, blob) => sum + blob.done, this.#settledBytes);
  }
}

function keyOf({ image, digest }: { readonly image?: string | undefined; readonly digest: string }): string {
  return `${image ?? ''} ${digest}`;
}

const WINDOW_MS = 10_000;
const SAMPLE_MS = 500;
/** The shortest time over which a measured speed is used to estimate the time that is left. */
const LEAST_MS = 1000;
const MOST_SECONDS = 99 * 60 * 60;

/** How fast bytes moved within the last ten seconds. */
class Speed {
  /** How much had moved, by time; the oldest first. */
  readonly #samples: { readonly ms: number; readonly moved: number }[];
  #moved = 0;

  constructor(nowMs: number) {
    this.#samples = [{ ms: nowMs, moved: 0 }];
  }

  add(bytes: number, nowMs: number): void {
    this.#moved += bytes;
    if (nowMs - (this.#samples.at(-1)?.ms ?? 0) >= SAMPLE_MS) this.#samples.push({ ms: nowMs, moved: this.#moved });
    this.#forget(nowMs);
  }

  /** Bytes per second; 0 before it can be known. */
  perSecond(nowMs: number): number {
    this.#forget(nowMs);
    const [{ ms, moved } = { ms: nowMs, moved: 0 }] = this.#samples;
    return nowMs - ms < LEAST_MS ? 0 : ((this.#moved - moved) / (nowMs - ms)) * 1000;
  }

  #forget(nowMs: number): void {
    while (this.#samples.length > 1 && (this.#samples[1]?.ms ?? nowMs) <= nowMs - WINDOW_MS) this.#samples.shift();
  }
}

function timeLeft(bytes: number, perSecond: number): string | undefined {
  const seconds = bytes / perSecond;
  return bytes > 0 && perSecond > 0 && seconds < MOST_SECONDS ? formatDuration(Math.ceil(seconds) * 1000) : undefined;
}

const NAME_WIDTH = 21;
const SIZE_WIDTH = 9;
const RATE_WIDTH = 11;
const TIME_WIDTH = 6;
const LEAST_BAR = 8;
/** No wider than the narrowest usual terminal: a line that a narrower one breaks cannot always be taken away again. */
const MOST_COLUMNS = 79;

/** A line of one bar. Where it is narrow, first the time goes, then the rate, then the bar: sizes keep their units. */
function bar(
  name: string,
  { done, bytes }: { readonly done: number; readonly bytes: number },
  shown: { readonly columns: number; readonly perSecond: number; readonly left?: string },
): string {
  const { perSecond, left = timeLeft(bytes - done, perSecond) ?? '' } = shown;
  const columns = Math.min(MOST_COLUMNS, shown.columns);
  const label = padded(cut(name, NAME_WIDTH), NAME_WIDTH, 'right');
  const sizes = `${padded(formatBytes(done), SIZE_WIDTH, 'left')} / ${padded(formatBytes(bytes), SIZE_WIDTH, 'right')}`;
  const rate = padded(perSecond === 0 ? '' : `${formatBytes(perSecond)}/s`, RATE_WIDTH, 'left');
  const time = padded(left, TIME_WIDTH, 'left');
  const after = [sizes, rate, time];
  const used = (): number => widthOf([label, ...after].join(' ')) + 1;
  while (after.length > 1 && used() + LEAST_BAR > columns) after.pop();
  const room = columns - used();
  const drawn = room < LEAST_BAR ? [] : [barOf(bytes === 0 ? 1 : Math.min(1, done / bytes), room)];
  return cut([label, ...drawn, ...after].join(' ').trimEnd(), columns);
}

function barOf(share: number, width: number): string {
  const full = Math.floor(share * width);
  return `${'█'.repeat(full)}${'░'.repeat(width - full)}`;
}
