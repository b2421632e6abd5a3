import { parseMessage, type Job, type ParsedMessage, type PlanJob, type VerifyJob } from '../queue/job.ts';
import { patternOf } from '../queue/many-images.ts';
import type { Delivery, Queue } from '../queue/queue.ts';
import { formatLocation, parseDestination, parseLocation } from '../oci/location.ts';
import { destinationKey, publishedAt, withNameOf } from '../rules/destinations.ts';
import { snapshotFor, storedFor } from '../rules/stores.ts';
import type { DestinationKey, Destinations } from '../state/state.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import type { Report } from '../util/events.ts';
import { isFailure, toFailure } from '../util/failure.ts';
import type { Service } from './service.ts';

/** Dead letters at once: what one receive gives at most. */
const BATCH = 10;
/** The most that one pass of a planner looks at. */
const MAX_LOOKED_AT = 1000;

/** The message in a dead letter. Undefined for what is not a dead letter. */
export function messageIn(body: string): ParsedMessage | undefined {
  try {
    return parseMessage(body);
  } catch (error) {
    if (!isFailure(error)) throw error;
    return undefined;
  }
}

/** The job in a dead letter. Undefined for events, requests and what is not a message. */
export function jobIn(body: string): Job | undefined {
  const message = messageIn(body);
  return message?.type === 'job' ? message.job : undefined;
}

/**
 * The destinations of a job, as the state remembers them. None for a job that names an impossible destination, and was refused, or whose
 * destination has the tag that an archive names.
 */
export function destinationKeys(job: Job): readonly DestinationKey[] {
  if (job.kind === 'verify' || job.kind === 'plan') return [];
  try {
    if (job.kind === 'backup-store') return [storedFor(job)];
    if (job.kind === 'snapshot') return [snapshotFor(job)];
    if (job.kind === 'publish') return [publishedAt(job.to)];
    const from = parseLocation(job.from);
    const keys: DestinationKey[] = [];
    for (const to of typeof job.to === 'string' ? [job.to] : job.to) {
      const location = withNameOf(parseDestination(to), from);
      if (location === undefined) return [];
      keys.push(destinationKey(formatLocation(location)));
    }
    return keys;
  } catch (error) {
    if (!isFailure(error, 'INVALID')) throw error;
    return [];
  }
}

/**
 * Whether a job that failed was done since: each of its destinations was recorded from the same source after the job was asked for, and none
 * remembers a dead letter of the job. Settings are not recorded: for them only the letters count.
 */
export async function isDone(job: Job, destinations: Destinations, options: Abortable): Promise<boolean> {
  const keys = destinationKeys(job);
  if (job.kind === 'verify' || job.kind === 'plan' || keys.length === 0) return false;
  for (const key of keys) {
    if (job.kind !== 'settings') {
      const record = await destinations.get(key, options);
      if (record === undefined || record.source !== sourceOf(job) || record.atMs < Date.parse(job.at)) return false;
    }
    const letters = await destinations.letters(key, options);
    if (letters.some((letter) => letter.job === job.id)) return false;
  }
  return true;
}

/** What a record of the job's destinations names as their source. */
function sourceOf(job: Exclude<Job, VerifyJob | PlanJob>): string {
  return job.kind === 'backup-store' || job.kind === 'snapshot' ? patternOf(job) : job.from;
}

/**
 * Shows each dead letter once to `take`, which returns whether it settled the letter. The others stay, and are visible again at the end. Safe
 * to stop.
 */
export async function eachDeadLetter(
  deadLetters: Queue,
  take: (delivery: Delivery) => Promise<boolean>,
  options: Abortable & { readonly report?: Report | undefined; readonly waitSeconds: number; readonly limit?: number },
): Promise<void> {
  const { waitSeconds, limit = Infinity, signal, report } = options;
  const kept = new Map<string, Delivery>();
  try {
    while (kept.size < limit) {
      checkAborted(options);
      const deliveries = await deadLetters.receive(BATCH, { signal, waitSeconds });
      // where there are so many that the first are visible again, all were seen
      if (deliveries.every(({ id }) => kept.has(id))) return;
      for (const delivery of deliveries) {
        const isKnown = kept.has(delivery.id);
        kept.set(delivery.id, delivery);
        if (!isKnown && (await take(delivery))) kept.delete(delivery.id);
      }
    }
  } finally {
    // held until now, so that the loop above meets each once
    for (const delivery of kept.values()) {
      await delivery.settle({ type: 'again', seconds: 0 }).catch((error: unknown) => {
        report?.({ type: 'warning', message: `a dead letter stays hidden for a while: ${toFailure(error).message}` });
      });
    }
  }
}

/** Deletes the dead letters whose jobs were done since. */
export async function dropDone(
  { state, deadLetters }: Service,
  options: Abortable & { readonly report?: Report | undefined },
): Promise<void> {
  const take = async (delivery: Delivery): Promise<boolean> => {
    const job = jobIn(delivery.body);
    if (job === undefined || !(await isDone(job, state.destinations, options))) return false;
    await delivery.settle({ type: 'done' });
    return true;
  };
  await eachDeadLetter(deadLetters, take, { ...options, waitSeconds: 0, limit: MAX_LOOKED_AT });
}
