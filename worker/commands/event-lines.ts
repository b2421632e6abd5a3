import type { Event, ServeEvent } from '../util/events.ts';
import { redacted } from '../util/text.ts';
import { counted, describeResumed, formatBytes, formatDigest, formatDuration, printable } from './text.ts';

export interface LineOptions {
  /** `bars` redraws a terminal; `lines` writes a line an image; `json` each event as JSON; `none` only what went wrong. */
  readonly style: 'bars' | 'lines' | 'json' | 'none';
  /** Also what happens within an image, what was there already, and each retry. */
  readonly verbose: boolean;
}

type ObjectEvent = Extract<Event, { readonly type: `object-${string}` | 'snapshot-published' }>;
type CopyEvent = Extract<
  Event,
  {
    readonly type:
      | 'planned'
      | `blob-${string}`
      | 'bytes-sent'
      | 'manifest-done'
      | 'tagged'
      | 'resumed'
      | 'referrer-refused'
      | 'images-planned'
      | 'image-done';
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

/** An event as one line for a person; undefined for an event that is not printed. */
export function textLine(event: Event, options: LineOptions): string | undefined {
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
      return options.verbose && !isQuiet ? retryLine(event) : undefined;
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
    case 'repository-listed':
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
    case 'images-planned':
    case 'image-done':
      return copyLine(event, options);
    default:
      return event satisfies never;
  }
}

function retryLine({ what, delayMs, attempt, message }: Extract<Event, { readonly type: 'retry' }>): string {
  return `retry ${printable(what)} in ${formatDuration(delayMs)}, attempt ${attempt}: ${printable(message)}`;
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
      return `rule ${event.rule}: ${counted(event.jobs, 'job')}${event.unchanged > 0 || event.jobs === 0 ? `, ${event.unchanged} unchanged` : ''}${event.unseen > 0 ? `, ${event.unseen} of them not looked at` : ''}${event.continued ? ', the rest goes on in the queue' : ''}`;
    case 'run-ended':
      return `rule ${event.rule}: run ${event.run} ended, ${event.failed} failed`;
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
      return `pruned ${place}: ${event.deleted} deleted, ${event.kept} kept, ${event.left} left, ${event.failed} failed`;
    case 'scratch-deleted':
      return `deleted ${place}: its drill is over`;
    case 'place-postponed':
      return `postponed ${place}: ${printable(event.message)}`;
    default:
      return event satisfies never;
  }
}

/** What becomes of objects. Bars show it only when more is asked for, since it can be a line for each of many. */
function objectLine(event: ObjectEvent, { style, verbose }: LineOptions): string | undefined {
  const isShown = style !== 'none' && (style !== 'bars' || verbose);
  switch (event.type) {
    case 'object-failed':
      return `failed: ${printable(event.key)}: ${printable(event.message)}`;
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
        ? `snapshot ${event.tag} ${event.digest}: ${counted(event.objects, 'object')}, ${formatBytes(event.bytes)}, ${event.failed} failed`
        : undefined;
    default:
      return event satisfies never;
  }
}

/** What is deleted is always shown, unless only warnings are asked for. */
function pruneLine(
  event: Extract<Event, { readonly type: 'pruned' | 'prune-failed' }>,
  { style }: LineOptions,
): string | undefined {
  if (event.type === 'prune-failed')
    return `failed: ${printable(event.id === undefined ? event.place : `${event.place} ${event.id}`)}: ${printable(event.message)}`;
  if (style === 'none') return undefined;
  const what = [event.id, ...event.tags].map(printable).join(' ');
  return `${event.action === 'delete' ? 'deleted' : 'untagged'} ${printable(event.place)} ${what}: ${printable(event.reason)}`;
}

/** The outcome of an image. Bars show it themselves; an image that needed no work is printed only with `--verbose`. */
function imageLine(event: Extract<Event, { readonly type: 'image-done' }>, options: LineOptions): string | undefined {
  const { image, to, outcome, bytesSent, message } = event;
  if (outcome === 'failed') return `failed: ${printable(image)}: ${printable(message ?? '')}`;
  if (options.style === 'none' || (!options.verbose && (options.style === 'bars' || outcome === 'unchanged')))
    return undefined;
  const sent = outcome === 'copied' ? `, ${formatBytes(bytesSent)} sent` : '';
  return `${outcome} ${printable(image)}${to === undefined ? '' : ` -> ${printable(to)}`}${sent}`;
}

/** The events within an image, printed only with `--verbose`. */
function copyLine(event: CopyEvent, { style, verbose }: LineOptions): string | undefined {
  const isShown = verbose && style !== 'none';
  switch (event.type) {
    case 'image-done':
      return imageLine(event, { style, verbose });
    case 'referrer-refused':
      return `warning: ${formatDigest(event.digest)} refers to the image and was not taken: ${printable(event.message)}`;
    case 'blob-done':
    case 'manifest-done': {
      if (!isShown) return undefined;
      const what = event.type === 'blob-done' ? 'blob' : 'manifest';
      return `${event.outcome} ${what} ${event.digest} bytes=${event.bytes}`;
    }
    case 'tagged':
      return isShown ? `tagged ${printable(event.name)} ${event.digest}` : undefined;
    case 'planned':
      return verbose && style === 'lines'
        ? `planned blobs=${event.blobs} manifests=${event.manifests} bytes=${event.bytes}`
        : undefined;
    case 'blob-started':
      return verbose && style === 'lines' ? `started blob ${event.digest} bytes=${event.bytes}` : undefined;
    case 'resumed':
      return style === 'none' ? undefined : `resumed ${printable(event.location)}: ${describeResumed(event)}`;
    case 'blob-progress':
    case 'bytes-sent':
    case 'images-planned':
      return undefined;
    default:
      return event satisfies never;
  }
}

/** An event as one line of JSON; undefined for those that only bars need. */
export function jsonLine(event: Event, options: LineOptions): string | undefined {
  if (event.type === 'blob-progress' || event.type === 'bytes-sent') return undefined;
  if (event.type === 'blob-started' && !options.verbose) return undefined;
  return JSON.stringify(event, (_, value: unknown) => (typeof value === 'string' ? redacted(value) : value));
}
