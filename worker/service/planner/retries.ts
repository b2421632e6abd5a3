import { parseMessage, type CopyJob } from '../../queue/job.ts';
import type { JobRecord, Run, Runs } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';

/** Runs that began longer ago are declared dead, so they retry nothing. */
const LOOKED_BACK_MS = 2 * 24 * 3600_000;

/** Whether the run only waits for retries: its rule need not wait for them. */
export async function onlyRetries(run: Run, runs: Runs, options: Abortable): Promise<boolean> {
  if (run.plannedAtMs === undefined || run.jobs.running > 0) return false;
  for await (const { attempts } of runs.jobs(run.id, { signal: options.signal, state: 'waiting' }))
    if (attempts === 0) return false;
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

  /** The job under retry that does all that `job` is for. Undefined where there is none. */
  async find(job: CopyJob, options: Abortable): Promise<JobRecord | undefined> {
    this.#found ??= this.#read(options);
    const found = (await this.#found).get(choicesOf(job)) ?? [];
    return found.find(({ to }) => job.to.every((destination) => to.includes(destination)))?.record;
  }

  async #read({ signal }: Abortable): Promise<ReadonlyMap<string, readonly Retried[]>> {
    const found = new Map<string, Retried[]>();
    const unendedSinceMs = this.#run.startedAtMs - LOOKED_BACK_MS;
    for (const { id } of await this.#runs.list({ signal, rule: this.#rule, unendedSinceMs })) {
      if (id === this.#run.id) continue;
      for await (const record of this.#runs.jobs(id, { signal })) {
        const job = isRetried(record) ? copyJobOf(record.body) : undefined;
        if (job === undefined) continue;
        const key = choicesOf(job);
        found.set(key, [...(found.get(key) ?? []), { to: job.to, record }]);
      }
    }
    return found;
  }
}

interface Retried {
  readonly to: readonly string[];
  readonly record: JobRecord;
}

function isRetried({ state, attempts }: JobRecord): boolean {
  return (state === 'waiting' && attempts > 0) || (state === 'running' && attempts > 1);
}

function copyJobOf(body: string | undefined): CopyJob | undefined {
  try {
    const message = parseMessage(body ?? '');
    if (message.type !== 'job') return undefined;
    return message.job.kind === 'mirror' || message.job.kind === 'backup' ? message.job : undefined;
  } catch {
    // a message of another version
    return undefined;
  }
}

/** Equal where two jobs do the same at a destination. */
function choicesOf({ kind, from, platforms = [], referrers = true, create, force = false, settings }: CopyJob): string {
  return JSON.stringify([kind, from, platforms, referrers, create ?? null, force, settings ?? null]);
}
