import { isLargeJob } from '../../queue/large-jobs.ts';
import { jobId, type BackupStoreJob, type Choices, type CopyJob, type RestoreJob } from '../../queue/job.ts';
import { FROM_THE_START, planJobOf } from '../planner/plan-jobs.ts';
import { archiveTemplate, expandTemplate } from '../../oci/key-template.ts';
import {
  formatLocation,
  isPattern,
  parseDestination,
  parseImagePattern,
  parseLocation,
  parseS3,
  type Location,
} from '../../oci/location.ts';
import { isPlannedRule } from '../../rules/rule.ts';
import { parseStore } from '../../rules/stores.ts';
import type { JobRecord, Run, RunReader } from '../../state/state.ts';
import type { Abortable } from '../../util/abort.ts';
import type { Clock } from '../../util/clock.ts';
import type { Report } from '../../util/events.ts';
import { Failure } from '../../util/failure.ts';
import { quote } from '../../util/text.ts';
import { allowedTargets, judgeRequest } from '../judge-request.ts';
import { titleOfMany } from '../planner/plan-many.ts';
import { newJob } from '../planner/run-jobs.ts';
import { readRule } from '../planner/stored-rule.ts';
import type { Service } from '../service.ts';
import { startTask } from '../start-task.ts';

export interface EnqueueOptions extends Abortable {
  readonly clock: Clock;
  readonly report?: Report | undefined;
}

/**
 * Asks the deployed system to run a rule now, whatever its schedule. Returns the run. NOT_FOUND without the rule. The next pass of a Cleaner
 * runs a rule that prunes.
 */
export async function enqueueRule(name: string, service: Service, options: EnqueueOptions): Promise<Run> {
  const { state } = service;
  const rule = await readRule(name, service, options);
  const id = runId(options.clock);
  const run = await state.runs.begin({ id, rule: name, trigger: 'request', whole: true }, options);
  if (!isPlannedRule(rule)) return run;
  const planJob = planJobOf({ rule: name, run, after: FROM_THE_START });
  await request([newJob(planJob, { title: `plan ${name}` })], id, service, options);
  return run;
}

/** Makes the jobs known, sends them, and starts a worker when no worker runs. */
async function request(
  made: readonly ReturnType<typeof newJob>[],
  run: string,
  service: Service,
  options: EnqueueOptions,
): Promise<void> {
  const { state, queue, requests = queue, large } = service;
  const isLarge = made.some(({ message }) => isLargeJob(message.body));
  if (isLarge && large === undefined) throw new Failure('BUG', 'large jobs for a deployment without large workers');
  await state.runs.addJobs(
    run,
    made.map(({ record }) => record),
    options,
  );
  await (isLarge ? queue : requests).send(
    made.map(({ message }) => message),
    options,
  );
  await startTask(isLarge ? (large ?? service) : service, options);
}

export interface ImageRequest extends Choices {
  /** An image of a registry, or an archive in S3. */
  readonly from: string;
  /** A registry, or `s3://bucket/key`; ending in `/` the default template follows. */
  readonly to: string;
  readonly force?: boolean | undefined;
  /** Large workers do it. INVALID where the deployment does not have any. */
  readonly large?: boolean | undefined;
}

/**
 * Asks the deployed system for one copy. Returns its run. INVALID for what its workers could not reach, DENIED for what they would refuse.
 * Where it is not known what their settings allow, they alone decide which targets may be written.
 */
export async function enqueueImage(asked: ImageRequest, service: Service, options: EnqueueOptions): Promise<Run> {
  return enqueueImages([asked], service, options);
}

/** More images are the work of a rule, which a planner lists and which goes on after a failure. */
const MOST_IMAGES = 1000;

/**
 * Asks the deployed system for a copy of each image, in one run. As `enqueueImage`; INVALID also for more than a thousand images. Nothing is
 * enqueued where one of the requests is refused.
 */
export async function enqueueImages(
  asked: readonly ImageRequest[],
  service: Service,
  options: EnqueueOptions,
): Promise<Run> {
  if (asked.length > MOST_IMAGES)
    throw new Failure(
      'INVALID',
      `enqueue ${asked.length} images: one request takes ${MOST_IMAGES}; make a rule of it and enqueue that`,
    );
  const { state } = service;
  if (service.large === undefined && asked.some(({ large }) => large === true))
    throw new Failure(
      'INVALID',
      'the deployment has no large workers: set `largeJobs` in its settings and TRANSSHIP_LARGE_QUEUE_URL here, or leave out --large',
    );
  const id = runId(options.clock);
  const targets = service.allow === undefined ? undefined : await allowedTargets(service, options);
  const jobs = asked.map((one) => judgeRequest(jobOf(one, id, options.clock.now()), targets));
  const run = await state.runs.begin({ id, trigger: 'request' }, options);
  const made = jobs.map((job) => {
    const to = job.kind === 'restore' ? job.to : job.to.join(', ');
    return newJob(job, { title: `${job.from} → ${to}` });
  });
  await request(made, id, service, options);
  await state.runs.planned(id, options);
  return run;
}

/**
 * Asks the deployed system for a backup of images of one registry, by pattern, into a store. Returns its run. INVALID and DENIED as
 * `enqueueImage`.
 */
export async function enqueueStore(
  asked: Pick<ImageRequest, 'from' | 'to' | 'platforms' | 'referrers'> &
    Pick<BackupStoreJob, 'select' | 'includeArchived'>,
  service: Service,
  options: EnqueueOptions,
): Promise<Run> {
  const { state } = service;
  const { registry, repository, tag } = parseImagePattern(asked.from);
  const run = runId(options.clock);
  const from = [`docker://${registry}/${repository}`];
  const to = parseStore(asked.to);
  const { platforms, referrers, includeArchived } = asked;
  if (tag !== undefined && asked.select?.include !== undefined)
    throw new Failure('INVALID', `${quote(asked.from)} names tags already: leave out --tags`);
  const chosen = { ...asked.select, ...(tag === undefined ? {} : { include: [tag] }) };
  const select = Object.keys(chosen).length === 0 ? {} : { select: chosen };
  const common = {
    version: 1,
    run,
    at: new Date(options.clock.now()).toISOString(),
    platforms,
    referrers,
    includeArchived,
  } as const;
  const id = jobId(run, 'backup-store', ...from, to);
  const targets = service.allow === undefined ? undefined : await allowedTargets(service, options);
  const job = judgeRequest<BackupStoreJob>({ ...common, kind: 'backup-store', id, from, to, ...select }, targets);
  const begun = await state.runs.begin({ id: run, trigger: 'request' }, options);
  await request([newJob(job, { title: titleOfMany(job) })], run, service, options);
  await state.runs.planned(run, options);
  return begun;
}

function jobOf(asked: ImageRequest, run: string, nowMs: number): CopyJob | RestoreJob {
  if (isPattern(asked.from)) {
    throw new Failure(
      'INVALID',
      `${quote(asked.from)} stands for several images: a request for one copy names one image`,
    );
  }
  const from = parseLocation(asked.from);
  const to = destinationOf(asked.to, from, nowMs);
  const { platforms, referrers, create, force } = asked;
  const large = asked.large === true ? { large: true } : {};
  const common = { version: 1, run, at: new Date(nowMs).toISOString(), referrers, create, ...large } as const;
  const [source, target] = [formatLocation(from), formatLocation(to)];
  if (from.transport === 's3' && to.transport === 'docker') {
    if (platforms !== undefined || force === true)
      throw new Failure('INVALID', 'a restore takes an archive as it is: leave out platforms and force');
    return { ...common, kind: 'restore', id: jobId(run, 'restore', source, target), from: source, to: target };
  }
  if (from.transport === 'docker') {
    const kind = to.transport === 's3' ? 'backup' : 'mirror';
    const id = jobId(run, kind, source, target);
    return { ...common, kind, id, from: source, to: [target], platforms, force };
  }
  throw new Failure('INVALID', `from ${source} to ${target}: an archive is restored to a registry`);
}

function destinationOf(text: string, from: Location, nowMs: number): Location {
  const to =
    text.startsWith('s3://') && from.transport === 'docker' ? archiveOf(text, from, nowMs) : parseDestination(text);
  for (const location of [from, to]) {
    if (location.transport !== 's3' && location.transport !== 'docker') {
      throw new Failure(
        'INVALID',
        `${quote(formatLocation(location))} is a file here, which no worker can reach: name a registry or s3://`,
      );
    }
  }
  return to;
}

function archiveOf(text: string, from: Extract<Location, { transport: 'docker' }>, nowMs: number): Location {
  const { bucket, key } = parseS3(text);
  return {
    transport: 's3',
    bucket,
    key: expandTemplate(archiveTemplate(key), from.reference, from.reference.digest, new Date(nowMs)),
  };
}

/** Ids sort by time, and each is used once. */
function runId(clock: Clock): string {
  const time = new Date(clock.now()).toISOString().replace(/[-:]/g, '').slice(0, 15);
  return `request-${time}-${Math.floor(clock.random() * 2 ** 40)
    .toString(36)
    .padStart(8, '0')}`;
}

/** How often `follow` looks at a run. Runs of many jobs, which are counted each time, are looked at less often. */
const POLL_MS = 1000;
const MAX_POLL_MS = 20_000;
/** Looking takes at most one part in this many of the time. */
const POLL_SHARE = 10;

/**
 * Waits until the run has ended, or no job is left that plans the rest of it, and calls `seen` with every change of its counts. Returns the run
 * and its failed jobs. NOT_FOUND without the run; ABORTED when the signal fires: the run goes on.
 */
export async function follow(
  id: string,
  runs: Pick<RunReader, 'get' | 'jobs'>,
  options: EnqueueOptions & { readonly seen?: (run: Run) => void },
): Promise<{ readonly run: Run; readonly failed: readonly JobRecord[] }> {
  let last = '';
  for (;;) {
    const startedMs = options.clock.now();
    const run = await runs.get(id, options);
    const tookMs = options.clock.now() - startedMs;
    if (run === undefined) throw new Failure('NOT_FOUND', `there is no run ${quote(id)}`);
    const now = JSON.stringify([run.jobs, run.plannedAtMs]);
    if (now !== last) options.seen?.(run);
    last = now;
    const { waiting, running, failed: failures } = run.jobs;
    // planning is a job of the run too, and succeeds only when all of it is planned
    const isGivenUp = run.plannedAtMs === undefined && waiting + running === 0 && failures > 0;
    if (run.endedAtMs !== undefined || isGivenUp) {
      const failed: JobRecord[] = [];
      for await (const job of runs.jobs(id, { signal: options.signal, state: 'failed' })) failed.push(job);
      return { run, failed };
    }
    await options.clock.sleep(Math.min(MAX_POLL_MS, Math.max(POLL_MS, tookMs * POLL_SHARE)), options);
  }
}
