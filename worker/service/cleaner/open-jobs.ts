import { parseMessage, type Job } from '../../queue/job.ts';
import type { JobRecord, RunReader } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import { isFailure } from '../../util/failure.ts';
import { forEachOf } from '../../util/limit.ts';
import { isUseOf, usesOf, usesOfTitle, type PlaceUse } from '../place-uses.ts';

/** A job that uses a place and has not ended. */
export interface JobAtPlace {
  /** What it uses there. */
  readonly uses: readonly PlaceUse[];
  readonly running: boolean;
}

/** Jobs of runs that began longer ago have ended: a message is handed on for less than that. */
const LOOKED_BACK_MS = 4 * 24 * 3600_000;
const AT_ONCE = 16;

interface KnownJob {
  readonly run: string;
  readonly id: string;
  readonly uses: readonly PlaceUse[];
}

/**
 * The open jobs of the deployed system, by the places that they use. A run is read once, and again when it got more jobs. Whether a job that
 * uses a place is open is asked when the place is looked at, so no job that ran before the look is missed. Memory is that of the open jobs at
 * places for which `covers` is true.
 */
export class OpenJobs {
  readonly #runs: Pick<RunReader, 'open' | 'jobs' | 'job'>;
  readonly #clock: Clock;
  readonly #covers: (place: string) => boolean;
  /** Runs that were read, with the epoch that they had before they were read. */
  readonly #read = new Map<string, { readonly epoch: number; readonly jobs: readonly KnownJob[] }>();

  constructor(runs: Pick<RunReader, 'open' | 'jobs' | 'job'>, covers: (place: string) => boolean, clock: Clock) {
    this.#runs = runs;
    this.#covers = covers;
    this.#clock = clock;
  }

  /** The jobs at a place (by `placeName`) that are open now. Those at any place where what a job uses is not known. */
  async at(place: string, options: Abortable): Promise<readonly JobAtPlace[]> {
    await this.#refresh(options);
    const found: JobAtPlace[] = [];
    const known = [...this.#read.values()].flatMap(({ jobs }) => jobs.filter(({ uses }) => uses.some(isAt(place))));
    await forEachOf(
      known,
      AT_ONCE,
      async ({ run, id, uses }, taskOptions) => {
        const job = await this.#runs.job(run, id, taskOptions);
        if (job !== undefined && isOpen(job))
          found.push({ uses: uses.filter(isAt(place)), running: job.state === 'running' });
      },
      options,
    );
    return found;
  }

  async #refresh(options: Abortable): Promise<void> {
    const open = await this.#runs.open(this.#clock.now() - LOOKED_BACK_MS, options);
    const ids = new Set(open.map(({ id }) => id));
    for (const id of this.#read.keys()) if (!ids.has(id)) this.#read.delete(id);
    for (const { id, epoch } of open) {
      if (this.#read.get(id)?.epoch === epoch) continue;
      const jobs: KnownJob[] = [];
      for await (const record of this.#runs.jobs(id, options)) {
        if (!isOpen(record)) continue;
        const uses = usesIn(record).filter(
          ({ place, isPattern }) => place === ANYWHERE || isPattern === true || this.#covers(place),
        );
        if (uses.length > 0) jobs.push({ run: id, id: record.id, uses });
      }
      this.#read.set(id, { epoch, jobs });
    }
  }
}

/** Stands for all places. */
const ANYWHERE = '*';

function isAt(place: string): (use: PlaceUse) => boolean {
  return (use) => use.place === ANYWHERE || isUseOf(use, place);
}

function isOpen({ state }: JobRecord): boolean {
  return state === 'waiting' || state === 'running';
}

/** What the job of a record uses. A job whose message cannot be read may use anything. */
function usesIn({ body, fingerprint, title }: JobRecord): readonly PlaceUse[] {
  // it never had a message: no worker does it
  if (fingerprint === undefined) return [];
  const job = body === undefined ? undefined : jobIn(body);
  if (job !== undefined) return usesOf(job);
  return usesOfTitle(title) ?? [{ place: ANYWHERE, role: 'destination' }];
}

function jobIn(body: string): Job | undefined {
  try {
    const message = parseMessage(body);
    return message.type === 'job' ? message.job : undefined;
  } catch (error) {
    if (!isFailure(error, 'INVALID')) throw error;
    return undefined;
  }
}
