import type { Backends } from '../../images/backends.ts';
import { hasSettings, readSettings, settingsBeside } from '../../images/store-settings.ts';
import { formatLocation, parseLocation, type Location } from '../../oci/location.ts';
import { formatRepository, type Repository } from '../../oci/reference.ts';
import { jobId, type SettingsJob } from '../../queue/job.ts';
import { mayPass } from '../../queue/redelivery.ts';
import type { Destination } from '../../rules/destinations.ts';
import type { Abortable } from '../../util/abort.ts';
import { Failure, isFailure } from '../../util/failure.ts';
import { titleOf } from './plan-jobs.ts';
import type { BatchContext } from './plan-batch.ts';

type ArchiveLocation = Extract<Location, { transport: 's3' }>;

/** The archives of one repository. */
interface ArchivedRepository extends Repository {
  /** Those that the state remembers as archives of this repository. */
  readonly archives: readonly Destination[];
}

/**
 * Compares the settings of a repository with what is stored beside its archives, and sends a job for each place that has no settings or
 * different ones. What cannot be compared at this moment is left to a job too, which is retried like any other. Settings that can never be read
 * or compared are a failed job of the run. Where no archive is remembered yet, the jobs that write the first ones store the settings too, and
 * this only finds out whether they can be read.
 */
export async function planSettings(
  { registry, repository, archives }: ArchivedRepository,
  context: BatchContext & { readonly backends: Backends },
  options: Abortable,
): Promise<void> {
  const { rule, run, jobs, backends } = context;
  if (rule.kind !== 'backup' || rule.settings === false) return;
  const from = `docker://${formatRepository({ registry, repository })}`;
  const source = { registry, repository };
  const fail = async (failure: Failure): Promise<void> =>
    context.fail(settingsTitle(source), orUnwanted(failure, rule.name));
  const document = await orFailure(readSettings(source, backends, options));
  if (document === undefined) return;
  if (isFailure(document) && !mayPass(document)) return fail(document);
  for (const [to, location] of placesBeside(archives)) {
    const isThere =
      !isFailure(document) &&
      (await orFailure(hasSettings({ repository: source, to: location }, document, backends, options)));
    if (isThere === true) continue;
    // one failure for a repository: the next run plans its other places
    if (isFailure(isThere) && !mayPass(isThere)) return fail(isThere);
    const job: SettingsJob = {
      version: 1,
      kind: 'settings',
      id: jobId(run.id, 'settings', from, to),
      run: run.id,
      rule: rule.name,
      at: new Date(run.startedAtMs).toISOString(),
      from,
      to,
    };
    const title = titleOf({ from: `settings of ${from}`, to: [to] });
    await jobs.add([{ job, title }], { unchanged: 0, unseen: 0 }, options);
  }
}

async function orFailure<T>(work: Promise<T>): Promise<T | Failure> {
  try {
    return await work;
  } catch (error) {
    if (isFailure(error)) return error;
    throw error;
  }
}

/** What people know the settings of a repository by, where a run owes them and could not compare or store them. */
export function settingsTitle(repository: Repository): string {
  return `settings of docker://${formatRepository(repository)}`;
}

/** The same failure of settings, with what else there is to do about it. */
export function orUnwanted(failure: Failure, rule: string): Failure {
  if (!isFailure(failure, 'DENIED', 'CONFLICT')) return failure;
  const { code, message, context, cause } = failure;
  const or = `${message}; or set \`settings: false\` in rule ${rule}, if they are not wanted`;
  return new Failure(code, or, { cause, context });
}

/** Where settings belong beside these archives, by location. */
function placesBeside(archives: readonly Destination[]): ReadonlyMap<string, ArchiveLocation> {
  const places = new Map<string, ArchiveLocation>();
  for (const { location } of archives) {
    const archive = parseLocation(location);
    if (archive.transport !== 's3') continue;
    const beside = settingsBeside(archive);
    places.set(formatLocation(beside), beside);
  }
  return places;
}
