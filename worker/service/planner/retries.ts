import { parseMessage, type BackupStoreJob, type CopyJob, type PublishJob } from '../../queue/job.ts';
import { isSnapshotJobId } from './many-jobs.ts';
import type { JobRecord, Run, Runs } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';

/** Runs that began longer ago are declared dead, so they retry nothing. */
const LOOKED_BACK_MS = 2 * 24 * 3600_000;

/** Whether the run only waits for retries: its rule need not wait for them. */
export async function onlyRetries(run: Run, runs: Runs, options: Abortable): Promise<boolean> {
  if (run.plannedAtMs === undefined || run.jobs.running > 0) return false;
  for await (const { id, attempts } of runs.jobs(run.id, { signal: options.signal, state: 'waiting' }))
    // its snapshot waits for the retries
    if (attempts === 0 && !isSnapshotJobId(id)) return false;
  return true;
}

/** Jobs of earlier runs of a rule that failed and are tried again. They are read when they are first asked for. */
export class Retries {
  readonly #rule: string;
  readonly #run: Pick<Run, 'id' | 'startedAtMs'>;
  readonly #runs: Runs;
  #found: Promise<ReadonlyMap<string, readonly Retried[]>> | undefined;

  constructor(rule: string, run: Pick<Run, 'id' | 'startedAtMs'>, runs: Runs) {
    this.#rule = rule;
    this.#run = run;
    this.#runs = runs;
  }

  /** The job under retry that does all that `job` is for. Undefined where no such job exists. */
  async find(job: Retriable, options: Abortable): Promise<JobRecord | undefined> {
    this.#found ??= this.#read(options);
    const found = (await this.#found).get(choicesOf(job)) ?? [];
    return found.find(({ to }) => [job.to].flat().every((destination) => to.includes(destination)))?.record;
  }

  async #read({ signal }: Abortable): Promise<ReadonlyMap<string, readonly Retried[]>> {
    const found = new Map<string, Retried[]>();
    const unendedSinceMs = this.#run.startedAtMs - LOOKED_BACK_MS;
    for (const { id } of await this.#runs.list({ signal, rule: this.#rule, unendedSinceMs })) {
      if (id === this.#run.id) continue;
      for await (const record of this.#runs.jobs(id, { signal })) {
        const job = isRetried(record) ? retriableIn(record.body) : undefined;
        if (job === undefined) continue;
        const key = choicesOf(job);
        found.set(key, [...(found.get(key) ?? []), { to: [job.to].flat(), record }]);
      }
    }
    return found;
  }
}

/** A job that a later run leaves to an earlier one. */
type Retriable = CopyJob | BackupStoreJob | PublishJob;

interface Retried {
  readonly to: readonly string[];
  readonly record: JobRecord;
}

function isRetried({ state, attempts }: JobRecord): boolean {
  return (state === 'waiting' && attempts > 0) || (state === 'running' && attempts > 1);
}

function retriableIn(body: string | undefined): Retriable | undefined {
  try {
    const message = parseMessage(body ?? '');
    if (message.type !== 'job') return undefined;
    const { job } = message;
    if (job.kind === 'mirror' || job.kind === 'backup') return job;
    return job.kind === 'backup-store' || job.kind === 'publish' ? job : undefined;
  } catch {
    // a message of another version
    return undefined;
  }
}

/** Equal where two jobs do the same at a destination. */
function choicesOf(job: Retriable): string {
  if (job.kind === 'publish') return JSON.stringify([job.kind, job.from]);
  if (job.kind === 'backup-store') {
    const { kind, from, select, only, platforms = [], referrers = true, settings } = job;
    return JSON.stringify([kind, from, select ?? null, only ?? null, platforms, referrers, settings ?? null]);
  }
  const { kind, from, platforms = [], referrers = true, create, force = false, settings } = job;
  return JSON.stringify([kind, from, platforms, referrers, create ?? null, force, settings ?? null]);
}
