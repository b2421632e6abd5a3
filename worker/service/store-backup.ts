import type { StoreBackupRequest, StoreBackupResult } from '../images/backup-store.ts';
import { parseImagePattern } from '../oci/location.ts';
import type { BackupStoreJob } from '../queue/job.ts';
import { patternOf } from '../queue/many-images.ts';
import { mayPass } from '../queue/redelivery.ts';
import { parseStore } from '../rules/stores.ts';
import { Failure } from '../util/failure.ts';
import { highest } from '../util/lists.ts';
import { quote } from '../util/text.ts';
import { chosenBy } from './many-images.ts';

/** What a job asks the use case for. INVALID for a selection that cannot be read, and for a store that no worker reaches. */
export function storeRequestOf(
  job: BackupStoreJob,
  { tool, nowMs }: { readonly tool: string; readonly nowMs: number },
): StoreBackupRequest {
  const { rule, run, platforms, referrers, includeArchived, settings } = job;
  const repositories = job.from.map((one) => parseImagePattern(one).repository);
  return {
    from: patternOf(job),
    ...(repositories.length === 1 ? {} : { repositories }),
    to: parseStore(job.to),
    tool,
    ...(rule === undefined ? {} : { rule, run }),
    ...chosenBy(job, nowMs),
    platforms,
    referrers,
    includeArchived,
    settings,
  };
}

/** How many failed images one failure names. */
const NAMED = 3;

/** One failure for all images and repositories that could not be stored. Undefined where none failed. */
export function failureOfImages({ from, to, images, failures, causes }: StoreBackupResult): Failure | undefined {
  const [first] = failures;
  if (first === undefined) return undefined;
  const cause = causes.find(mayPass) ?? causes[0];
  const named = failures.slice(0, NAMED).map(({ repository = '', tag, digest, reason }) => {
    const name = tag === undefined ? (digest ?? '') : tag;
    return `${quote([repository, name].filter((part) => part !== '').join(':'))}: ${reason}`;
  });
  const more = failures.length > named.length ? `; and ${failures.length - named.length} more` : '';
  const all = images.stored + images.unchanged;
  const message = `back up ${from} into ${to}: ${failures.length} failed, ${all === 1 ? '1 image is' : `${all} images are`} stored: ${named.join('; ')}${more}`;
  const retryAfterMs = highest(
    causes.map(({ context }) => context.retryAfterMs ?? 0),
    0,
  );
  return new Failure(cause?.code ?? 'UNAVAILABLE', message, { cause, context: { retryAfterMs } });
}
