import type { Clock } from '../util/clock.ts';
import type { Event, Report, ServeEvent } from '../util/events.ts';
import { redacted } from '../util/text.ts';
import { describeResumed, formatBytes, formatDigest, formatDuration, printable } from './text.ts';

/** Where text goes: a terminal, a pipe, or a test's buffer. */
export interface Screen {
  write(text: string): void;
  readonly terminal: boolean;
  /** Characters a line holds now: a terminal may be resized. */
  readonly columns: number;
  /** Lines that are seen at once. Default: as many as there are. */
  readonly rows?: number | undefined;
  /** Whether outcomes have colours. Default false. */
  readonly colour?: boolean;
}

export interface ProgressOptions {
  readonly clock: Clock;
  /** `bars` redraws a terminal; `lines` writes a line an event; `json` the same as JSON; `none` only warnings. */
  readonly style: 'bars' | 'lines' | 'json' | 'none';
  /** Also prints what was there already, and each retry. */
  readonly verbose: boolean;
}

export interface Progress {
  readonly report: Report;
  /** Takes the bars away and ends. */
  stop(): Promise<void>;
}

const REDRAW_MS = 100;
const LINE_EVERY_MS = 10_000;
const BAR_WIDTH = 24;

/** Shows events on `screen` until it is stopped. */
export function startProgress(screen: Screen, options: ProgressOptions): Progress {
  const state = new State(options.clock.now());
  const stopping = new AbortController();
  let drawn = 0;
  const erase = (): void => {
    if (drawn > 0) screen.write(`\u001b[${drawn}A\u001b[0J`);
    drawn = 0;
  };
  const draw = (): void => {
    const lines = state.bars(options.clock.now()).map((line) => line.slice(0, screen.columns - 1));
    erase();
    if (lines.length > 0) screen.write(`${lines.join('\n')}\n`);
    drawn = lines.length;
  };
  const show = (event: Event): void => {
    const text = options.style === 'json' ? jsonLine(event, options) : textLine(event, options);
    if (text === undefined) return;
    erase();
    screen.write(`${text}\n`);
  };
  const tick = async (): Promise<void> => {
    const everyMs = options.style === 'bars' ? REDRAW_MS : LINE_EVERY_MS;
    while (!stopping.signal.aborted) {
      await options.clock.sleep(everyMs, { signal: stopping.signal }).catch(() => undefined);
      if (stopping.signal.aborted) return;
      if (options.style === 'bars') draw();
      else if (options.style === 'lines' && state.active.size > 0)
        screen.write(`${state.summary(options.clock.now())}\n`);
    }
  };
  const ticking = options.style === 'bars' || options.style === 'lines' ? tick() : Promise.resolve();
  return {
    report: (event) => {
      state.take(event, options.clock.now());
      show(event);
    },
    stop: async () => {
      stopping.abort();
      await ticking;
      erase();
    },
  };
}

interface Active {
  readonly bytes: number;
  readonly startedMs: number;
  done: number;
}

class State {
  readonly active = new Map<string, Active>();
  readonly #startedMs: number;
  #total = 0;
  #settled = 0;
  #moved = 0;

  constructor(nowMs: number) {
    this.#startedMs = nowMs;
  }

  take(event: Event, nowMs: number): void {
    if (event.type === 'planned') this.#total += event.bytes;
    else if (event.type === 'blob-started') {
      // a second start of the same blob is a retry from its beginning
      this.active.set(event.digest, { bytes: event.bytes, startedMs: nowMs, done: 0 });
    } else if (event.type === 'blob-progress') {
      const blob = this.active.get(event.digest);
      if (blob !== undefined) blob.done += event.bytes;
      this.#moved += event.bytes;
    } else if (event.type === 'blob-done') {
      this.active.delete(event.digest);
      if (event.outcome !== 'foreign') this.#settled += event.bytes;
    }
  }

  bars(nowMs: number): string[] {
    if (this.active.size === 0) return [];
    const rows = [...this.active].map(([digest, blob]) =>
      bar(formatDigest(digest), blob.done, blob.bytes, nowMs - blob.startedMs, blob.done),
    );
    if (this.#total > 0) rows.push(bar('in all', this.#here(), this.#total, nowMs - this.#startedMs, this.#moved));
    return rows;
  }

  summary(nowMs: number): string {
    const here = this.#here();
    const elapsedMs = Math.max(1, nowMs - this.#startedMs);
    const rate = (this.#moved / elapsedMs) * 1000;
    const left = this.#total - here;
    const eta = rate > 0 && left > 0 ? ` eta=${formatDuration((left / rate) * 1000)}` : '';
    return `progress bytes=${here} of=${this.#total} rate="${formatBytes(rate)}/s" active=${this.active.size}${eta}`;
  }

  #here(): number {
    return [...this.active.values()].reduce((sum, blob) => sum + blob.done, this.#settled);
  }
}

function bar(name: string, done: number, bytes: number, elapsedMs: number, moved: number): string {
  const share = bytes === 0 ? 1 : Math.min(1, done / bytes);
  const full = Math.floor(share * BAR_WIDTH);
  const rate = elapsedMs > 0 ? (moved / elapsedMs) * 1000 : 0;
  const eta = rate > 0 && done < bytes ? formatDuration(((bytes - done) / rate) * 1000) : '';
  const drawn = `${'█'.repeat(full)}${'░'.repeat(BAR_WIDTH - full)}`;
  return `${name.padEnd(20)} ${drawn} ${formatBytes(done).padStart(10)} / ${formatBytes(bytes).padEnd(10)} ${`${formatBytes(rate)}/s`.padStart(12)}  ${eta}`;
}

type ObjectEvent = Extract<Event, { readonly type: `object-${string}` | 'snapshot-published' }>;
type CopyEvent = Extract<
  Event,
  {
    readonly type:
      'planned' | `blob-${string}` | 'bytes-sent' | 'manifest-done' | 'tagged' | 'resumed' | 'referrer-refused';
  }
>;
type WarningEvent = Extract<
  Event,
  { readonly type: 'warning' | 'message-refused' | 'run-late' | 'job-failed' | 'rule-failed' | 'rule-expired' }
>;
type CleanEvent = Extract<Event, { readonly type: 'prune-planned' | 'scratch-deleted' | `place-${string}` }>;
type ServiceEvent = Extract<
  Event,
  {
    readonly type:
      | 'job-handed-back'
      | 'job-started'
      | 'job-done'
      | 'snapshot-written'
      | 'verify-ended'
      | 'drill-ended'
      | 'run-started'
      | 'run-planned'
      | 'run-ended';
  }
>;

function textLine(event: Event, options: ProgressOptions): string | undefined {
  const isQuiet = options.style === 'none';
  switch (event.type) {
    case 'warning':
    case 'message-refused':
    case 'run-late':
    case 'job-failed':
    case 'rule-failed':
    case 'rule-expired':
      return warningLine(event);
    case 'note':
      return isQuiet ? undefined : printable(event.message);
    case 'retry':
      return options.verbose && !isQuiet
        ? `retry ${printable(event.what)} in ${formatDuration(event.delayMs)}, attempt ${event.attempt}: ${printable(event.message)}`
        : undefined;
    case 'job-handed-back':
    case 'job-started':
    case 'job-done':
    case 'snapshot-written':
    case 'verify-ended':
    case 'drill-ended':
    case 'run-started':
    case 'run-planned':
    case 'run-ended':
      return isQuiet ? undefined : serviceLine(event);
    case 'rule-age':
      return undefined;
    case 'object-published':
    case 'object-extracted':
    case 'object-unchanged':
    case 'object-removed':
    case 'object-failed':
    case 'snapshot-published':
      return objectLine(event, options);
    case 'pruned':
    case 'prune-failed':
      return pruneLine(event, options);
    case 'prune-planned':
    case 'place-pruned':
    case 'place-postponed':
    case 'scratch-deleted':
      return isQuiet ? undefined : cleanLine(event);
    case 'request-served':
      return isQuiet && event.message === undefined ? undefined : requestLine(event);
    case 'planned':
    case 'blob-started':
    case 'blob-progress':
    case 'bytes-sent':
    case 'blob-done':
    case 'manifest-done':
    case 'tagged':
    case 'resumed':
    case 'referrer-refused':
      return copyLine(event, options);
    default:
      return event satisfies never;
  }
}

/** What is printed even with --quiet. */
function warningLine(event: WarningEvent): string {
  switch (event.type) {
    case 'warning':
    case 'message-refused':
    case 'run-late':
      return `warning: ${printable(event.message)}`;
    case 'job-failed':
      return `${event.again ? 'warning' : 'failed'}: ${printable(event.job.title)}: ${printable(event.message)}`;
    case 'rule-failed':
      return `failed: rule ${event.rule}: ${printable(event.message)}`;
    case 'rule-expired':
      return `warning: rule ${event.rule} has expired, nothing is planned for it`;
    default:
      return event satisfies never;
  }
}

/** A request to `serve`. Its sender chooses the method and the path. */
function requestLine({ at, client, user, method, path, status, bytes, durationMs, message }: ServeEvent): string {
  const who = user === undefined ? client : `${client} ${printable(user)}`;
  const failed = message === undefined ? '' : `: ${printable(message)}`;
  return `${at} ${who} ${printable(method)} ${printable(path)} ${status} bytes=${bytes} ms=${durationMs}${failed}`;
}

/** What planners and workers do. */
function serviceLine(event: ServiceEvent): string {
  switch (event.type) {
    case 'snapshot-written': {
      const { stored, unchanged, archived, failed } = event.images;
      const others = `${archived > 0 ? `, archived ${archived}` : ''}${failed > 0 ? `, failed ${failed}` : ''}`;
      return `snapshot ${event.id.slice(0, 12)} of ${printable(event.registry)} in ${printable(event.place)}: new ${stored}, unchanged ${unchanged}${others}`;
    }
    case 'verify-ended':
      return `verified ${printable(event.place)}: ${event.names.checked} of ${event.names.of} names, findings ${event.findings}`;
    case 'drill-ended':
      return `drill of ${printable(event.place)} in ${printable(event.scratch)}: ${event.equal} of ${event.images.checked} images equal, findings ${event.findings}`;
    case 'job-handed-back':
      return `back to the queue: ${printable(event.job.title)}: ${printable(event.message)}`;
    case 'job-started':
      return `started ${printable(event.job.title)}`;
    case 'job-done':
      return `${event.unchanged ? 'unchanged' : 'done'} ${printable(event.job.title)} in ${formatDuration(event.durationMs)}`;
    case 'run-started':
      return `rule ${event.rule}: run ${event.run} started`;
    case 'run-planned':
      return `rule ${event.rule}: jobs=${event.jobs} unchanged=${event.unchanged}${event.unseen > 0 ? `, ${event.unseen} of them not looked at` : ''}${event.continued ? ', the rest goes on in the queue' : ''}`;
    case 'run-ended':
      return `rule ${event.rule}: run ${event.run} ended, failed=${event.failed}`;
    default:
      return event satisfies never;
  }
}

/** What a Cleaner does. */
function cleanLine(event: CleanEvent): string {
  const place = printable(event.place);
  switch (event.type) {
    case 'prune-planned': {
      const what = [event.id, ...event.tags].map(printable).join(' ');
      return `would be ${event.action === 'delete' ? 'deleted' : 'untagged'}: ${place} ${what}: ${printable(event.reason)}`;
    }
    case 'place-pruned':
      return `pruned ${place}: deleted=${event.deleted} kept=${event.kept} left=${event.left} failed=${event.failed}`;
    case 'scratch-deleted':
      return `deleted ${place}: its drill is over`;
    case 'place-postponed':
      return `postponed ${place}: ${printable(event.message)}`;
    default:
      return event satisfies never;
  }
}

/** What becomes of objects. Bars show it only when more is asked for, since it can be a line for each of many. */
function objectLine(event: ObjectEvent, { style, verbose }: ProgressOptions): string | undefined {
  const isShown = style !== 'none' && (style !== 'bars' || verbose);
  switch (event.type) {
    case 'object-failed':
      return `failed ${printable(event.key)}: ${printable(event.message)}`;
    case 'object-published':
      return isShown
        ? `published ${printable(event.key)} as ${event.digest}, ${event.bytes} bytes${event.outcome === 'exists' ? ', there already' : ''}`
        : undefined;
    case 'object-extracted':
      return isShown
        ? `${event.planned === true ? 'would extract' : 'extracted'} ${printable(event.key)}, ${event.bytes} bytes`
        : undefined;
    case 'object-removed':
      return isShown ? `removed ${printable(event.key)}` : undefined;
    case 'object-unchanged':
      return isShown && verbose ? `unchanged ${printable(event.key)}` : undefined;
    case 'snapshot-published':
      return isShown
        ? `snapshot ${event.tag} ${event.digest} objects=${event.objects} bytes=${event.bytes} failed=${event.failed}`
        : undefined;
    default:
      return event satisfies never;
  }
}

/** What is deleted is always shown, unless only warnings are asked for. */
function pruneLine(
  event: Extract<Event, { readonly type: 'pruned' | 'prune-failed' }>,
  { style }: ProgressOptions,
): string | undefined {
  if (event.type === 'prune-failed')
    return `failed ${printable(event.id === undefined ? event.place : `${event.place} ${event.id}`)}: ${printable(event.message)}`;
  if (style === 'none') return undefined;
  const what = [event.id, ...event.tags].map(printable).join(' ');
  return `${event.action === 'delete' ? 'deleted' : 'untagged'} ${printable(event.place)} ${what}: ${printable(event.reason)}`;
}

/** What a copy does. Bars show it by themselves unless more is asked for. */
function copyLine(event: CopyEvent, { style, verbose }: ProgressOptions): string | undefined {
  const isShown = style !== 'none' && (style !== 'bars' || verbose);
  switch (event.type) {
    case 'referrer-refused':
      return `warning: ${formatDigest(event.digest)} refers to the image and was not taken: ${printable(event.message)}`;
    case 'blob-done':
    case 'manifest-done': {
      if (!isShown || ((event.outcome === 'exists' || event.outcome === 'trusted') && !verbose)) return undefined;
      const what = event.type === 'blob-done' ? 'blob' : 'manifest';
      return `${event.outcome} ${what} ${event.digest} bytes=${event.bytes}`;
    }
    case 'tagged':
      return isShown ? `tagged ${printable(event.name)} ${event.digest}` : undefined;
    case 'planned':
      return style === 'lines'
        ? `planned blobs=${event.blobs} manifests=${event.manifests} bytes=${event.bytes}`
        : undefined;
    case 'blob-started':
      return verbose && style === 'lines' ? `started blob ${event.digest} bytes=${event.bytes}` : undefined;
    case 'resumed':
      return style === 'none' ? undefined : `resumed ${printable(event.location)}: ${describeResumed(event)}`;
    case 'blob-progress':
    case 'bytes-sent':
      return undefined;
    default:
      return event satisfies never;
  }
}

function jsonLine(event: Event, options: ProgressOptions): string | undefined {
  if (event.type === 'blob-progress' || event.type === 'bytes-sent') return undefined;
  if (event.type === 'blob-started' && !options.verbose) return undefined;
  return JSON.stringify(event, (_, value: unknown) => (typeof value === 'string' ? redacted(value) : value));
}
