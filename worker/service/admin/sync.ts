import { backupToStore } from '../../images/backup-store.ts';
import { parseMessage, type CopyJob, type BackupStoreJob } from '../../queue/job.ts';
import { parseDigest } from '../../oci/digest.ts';
import type { Queue } from '../../queue/queue.ts';
import { formatLocation, parseDestination, parseLocation } from '../../oci/location.ts';
import { parseObjectPlace } from '../../oci/object-place.ts';
import { parseRepository } from '../../oci/reference.ts';
import { choicesKey } from '../../rules/destinations.ts';
import { isForeign, writtenTwice, type Written } from '../../rules/owner.ts';
import { isExpired, type Config, type CopyRule, type PublishRule, type VerifyRule } from '../../rules/rule.ts';
import { memoryState } from '../../state/memory.ts';
import { append } from '../../util/lists.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { reportAbout } from '../../util/events.ts';
import { describeFailure, Failure, toFailure } from '../../util/failure.ts';
import { forEachOf } from '../../util/limit.ts';
import { quote } from '../../util/text.ts';
import type { Backends, OperationOptions } from '../../images/backends.ts';
import type { ImageChoices } from '../../images/copy-image.ts';
import { fanOut } from '../../images/fan-out.ts';
import { publish } from '../../images/publish.ts';
import { verifyPlace } from '../../images/verify.ts';
import { parsePlace } from '../../oci/place.ts';
import { verifyJobsOf } from '../planner/plan-verify.ts';
import { isStore } from '../../rules/stores.ts';
import { storeJobsOf } from '../planner/many-jobs.ts';
import { failureOfImages, storeRequestOf } from '../store-backup.ts';
import { failureOfObjects } from '../failed-objects.ts';
import { planScheduled } from '../planner/plan-scheduled.ts';
import type { Deletions } from '../../images/deletions.ts';
import { pruneHere, type PrunedRule } from './sync-prune.ts';
import { syncSettings } from './sync-settings.ts';
import {
  IMAGES_AT_ONCE,
  copyImages,
  doneOf,
  sharingBudget,
  type ItemResult,
  type BatchResult,
} from '../../images/copy-images.ts';

/** How old an answer of the source may be when an image is compared: of a long run, the later images are asked for anew. */
const ANSWERS_MS = 60_000;

export interface SyncRequest {
  readonly config: Config;
  /** Only these rules; absent: all. NOT_FOUND for one that the file does not have. */
  readonly rules?: readonly string[] | undefined;
  /** Reports what would be done, and writes nothing. Default false. */
  readonly dryRun?: boolean | undefined;
  /** Asks registries for every manifest and blob, also of images that they show. Default false. */
  readonly verifyTarget?: boolean | undefined;
  /** Lets rules that prune delete, except in a dry run. Absent: they only report what would go. */
  readonly deletions?: Deletions | undefined;
}

/** The results of the rules of a run. */
export interface SyncResult extends BatchResult {
  /** The rules that prune. */
  readonly pruned: readonly PrunedRule[];
}

/**
 * Runs rules here and now, whatever their schedules say: without a queue, and without a memory of what was copied before, so that every
 * image is compared with its destinations. One failure does not stop the others. Rules that have expired are left out, and reported. Rules
 * that prune are always planned, and delete only with `deletions`.
 *
 * A destination that two rules of the run make, or one rule from two images, is written for the first of them, in the order of the file; the
 * other is a failed image, with CONFLICT.
 */
export async function sync(request: SyncRequest, backends: Backends, shared: OperationOptions): Promise<SyncResult> {
  const items: ItemResult[] = [];
  const faults: string[] = [];
  const pruned: PrunedRule[] = [];
  const writers = new Map<string, Written>();
  for (const rule of chosen(request)) {
    const options = { ...shared, report: reportAbout(shared.report, { rule: rule.name }) };
    checkAborted(options);
    if (isExpired(rule, options.clock.now())) {
      options.report?.({ type: 'rule-expired', rule: rule.name });
    } else {
      try {
        if (rule.kind === 'publish') {
          items.push(await publishHere(rule, request, backends, options));
          continue;
        }
        if (rule.kind === 'prune' && rule.at.some(isStore)) {
          faults.push(`rule ${rule.name}: a Cleaner prunes stores; here, run \`transship prune ${rule.at.join(' ')}\``);
          continue;
        }
        if (rule.kind === 'prune') {
          const deletions = request.dryRun === true ? undefined : request.deletions;
          const one = await pruneHere(rule, deletions, backends, options);
          append(faults, one.faults);
          pruned.push(one);
          continue;
        }
        if (rule.kind === 'verify') {
          append(faults, await verifyHere(rule, request, backends, options));
          continue;
        }
        for (const job of storeJobsOf(rule, { id: rule.name, startedAtMs: options.clock.now() }))
          items.push(await backUpHere(job, request, backends, options));
        if (rule.to.length === 0) continue;
        // what the source answered to the plan need not be asked again for each image
        const known = { ...options, answersSinceMs: options.clock.now() };
        const { jobs: planned, failures } = await planHere(rule, backends, options);
        for (const failure of failures) faults.push(`rule ${rule.name}: ${failure}`);
        const { jobs, repeated, refused } = claimDestinations(planned, rule.name, writers);
        for (const { failure } of refused) options.report?.({ type: 'warning', message: describeFailure(failure) });
        append(items, refused);
        const run = request.dryRun === true ? tryJobs : copyJobs;
        // one destination is written by one copy at a time
        const trustTarget = request.verifyTarget !== true;
        const done = [
          ...(await run(jobs, { trustTarget }, backends, known)),
          ...(await run(repeated, { trustTarget }, backends, known)),
        ];
        append(items, done);
        if (request.dryRun !== true) append(faults, await syncSettings(rule, done, backends, options));
      } catch (error) {
        checkAborted(options);
        const message = describeFailure(error);
        faults.push(`rule ${rule.name}: ${message}`);
        options.report?.({ type: 'warning', message });
      }
    }
  }
  return { items, faults, pruned };
}

function chosen({ config, rules }: SyncRequest): Config['rules'] {
  for (const name of rules ?? []) {
    if (config.rules.some((rule) => rule.name === name)) continue;
    const names = config.rules.map((rule) => rule.name).join(', ');
    throw new Failure('NOT_FOUND', `the file has no rule ${quote(name)}, but ${names}`);
  }
  return rules === undefined ? config.rules : config.rules.filter((rule) => rules.includes(rule.name));
}

/** Publishes what the registry's last snapshot does not have. Objects that fail make one failed item. */
async function publishHere(
  rule: PublishRule,
  { dryRun }: SyncRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<ItemResult> {
  const request = { from: parseObjectPlace(rule.from), to: parseRepository(rule.to), dryRun };
  const result = await publish(request, backends, options);
  const failure = failureOfObjects(result);
  const { outcome, snapshot, bytesSent } = result;
  const item = { from: rule.from, to: `docker://${rule.to}`, digest: snapshot?.digest, bytesSent };
  return failure === undefined
    ? { ...item, outcome: outcome === 'published' ? 'copied' : outcome }
    : { ...item, outcome: 'failed', failure };
}

/** Verifies the places of a rule; returns what is not as it should be. */
async function verifyHere(
  rule: VerifyRule,
  { dryRun }: SyncRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<readonly string[]> {
  if (rule.restoreTo !== undefined) {
    const command = `transship verify ${rule.at[0] ?? ''} --restore-to ${rule.restoreTo}`;
    options.report?.({
      type: 'warning',
      message: `rule ${rule.name} was left out: workers run drills; here, run \`${command}\``,
    });
    return [];
  }
  if (dryRun === true) return [];
  const found: string[] = [];
  for (const { from, depth, sample } of verifyJobsOf({
    rule,
    run: { id: rule.name, startedAtMs: options.clock.now() },
  })) {
    const { findings } = await verifyPlace({ place: parsePlace(from), depth, sample }, backends, options);
    for (const { kind, at, message } of findings) found.push(`rule ${rule.name}: ${kind}: ${at}: ${message}`);
  }
  return found;
}

/** Backs up into a store. Images that fail make one failed item. */
async function backUpHere(
  job: BackupStoreJob,
  { dryRun }: SyncRequest,
  backends: Backends,
  options: OperationOptions,
): Promise<ItemResult> {
  const request = storeRequestOf(job, { tool: 'transship sync', nowMs: options.clock.now() });
  const result = await backupToStore({ ...request, run: undefined, dryRun }, backends, options);
  const failure = failureOfImages(result);
  const { snapshot, images, added } = result;
  const digest = snapshot === undefined ? undefined : parseDigest(`sha256:${snapshot.id}`);
  const bytes = dryRun === true ? { bytesSent: 0, bytesToSend: added.bytes } : { bytesSent: added.bytes };
  const item = { from: result.from, to: result.to, digest, ...bytes };
  if (failure !== undefined) return { ...item, outcome: 'failed', failure };
  if (images.stored === 0) return { ...item, outcome: 'unchanged' };
  return { ...item, outcome: dryRun === true ? 'planned' : 'copied' };
}

/** What the rule asks for, and what of it could not be looked at. */
async function planHere(
  rule: CopyRule,
  backends: Backends,
  options: OperationOptions,
): Promise<{ readonly jobs: readonly CopyJob[]; readonly failures: readonly string[] }> {
  const state = memoryState(options.clock);
  const outbox = new Outbox();
  const run = await state.runs.begin({ id: rule.name, rule: rule.name, trigger: 'request' }, options);
  // `syncSettings` stores them when the archives are written
  await planScheduled(
    { rule: { ...rule, stores: [], settings: false, snapshots: false }, run },
    { state, queue: outbox, deadLetters: outbox },
    backends,
    {
      ...options,
      untilMs: undefined,
    },
  );
  const failures: string[] = [];
  for await (const job of state.runs.jobs(run.id, { signal: options.signal, state: 'failed' }))
    failures.push(`${job.title}: ${job.reason}`);
  return { jobs: outbox.jobs, failures };
}

interface Claims {
  readonly jobs: readonly CopyJob[];
  /** Jobs for destinations that another of the jobs writes as well, with the same image or after it. */
  readonly repeated: readonly CopyJob[];
  readonly refused: readonly (ItemResult & { readonly failure: Failure })[];
}

/** Enters the destinations of jobs into `writers`. Those that belong to another writer are taken out of the jobs, and reported as failed. */
function claimDestinations(jobs: readonly CopyJob[], rule: string, writers: Map<string, Written>): Claims {
  const refused: (ItemResult & { failure: Failure })[] = [];
  const [first, repeated]: [CopyJob[], CopyJob[]] = [[], []];
  for (const job of jobs) {
    const { from } = job;
    const [own, again]: [string[], string[]] = [[], []];
    for (const to of job.to) {
      const written = writers.get(to);
      if (written === undefined) {
        writers.set(to, { rule, source: from, choices: choicesKey(job) });
        own.push(to);
      } else if (isForeign(written, { ...job, rule })) {
        const failure = writtenTwice(to, { rule, from }, { rule: written.rule ?? '', from: written.source });
        refused.push({ from, to, outcome: 'failed', bytesSent: 0, failure });
      } else again.push(to);
    }
    if (own.length > 0) first.push({ ...job, to: own });
    if (again.length > 0) repeated.push({ ...job, to: again });
  }
  return { jobs: first, repeated, refused };
}

/** A queue that keeps the jobs that are sent to it. */
class Outbox implements Queue {
  readonly name = 'here';
  readonly jobs: CopyJob[] = [];

  async send(messages: readonly { readonly body: string }[]): Promise<void> {
    for (const { body } of messages) {
      const message = parseMessage(body);
      if (message.type !== 'job' || (message.job.kind !== 'mirror' && message.job.kind !== 'backup'))
        throw new Failure('BUG', 'sync: a rule asked for something that is not a copy');
      this.jobs.push(message.job);
    }
  }

  async receive(): Promise<readonly never[]> {
    return [];
  }

  async count(): Promise<{ readonly visible: number; readonly inFlight: number; readonly delayed: number }> {
    return { visible: this.jobs.length, inFlight: 0, delayed: 0 };
  }
}

type TargetChoices = Pick<ImageChoices, 'trustTarget'>;

async function copyJobs(
  jobs: readonly CopyJob[],
  choices: TargetChoices,
  backends: Backends,
  options: OperationOptions,
): Promise<readonly ItemResult[]> {
  const items = new Map<CopyJob, readonly ItemResult[]>();
  const { clock, answersSinceMs } = options;
  const shared = sharingBudget(options);
  options.report?.({ type: 'images-planned', images: jobs.reduce((sum, { to }) => sum + to.length, 0) });
  await forEachOf(
    jobs,
    options.imagesAtOnce ?? IMAGES_AT_ONCE,
    async (job, taskOptions) => {
      const since = answersSinceMs === undefined ? undefined : Math.max(answersSinceMs, clock.now() - ANSWERS_MS);
      items.set(job, await copyJob(job, choices, backends, { ...shared, ...taskOptions, answersSinceMs: since }));
    },
    options,
  );
  return jobs.flatMap((job) => items.get(job) ?? []);
}

async function copyJob(
  job: CopyJob,
  choices: TargetChoices,
  backends: Backends,
  options: OperationOptions & Abortable,
): Promise<readonly ItemResult[]> {
  const items: ItemResult[] = [];
  const settle = (item: ItemResult): void => {
    items.push(item);
    options.report?.(doneOf(item));
  };
  const to = job.to.map((text) => ({ location: parseDestination(text) }));
  const fail = (destinations: readonly (typeof to)[number][], error: unknown, bytesSent: number): void => {
    checkAborted(options);
    const failure = toFailure(error);
    for (const { location } of destinations)
      settle({ from: job.from, to: formatLocation(location), outcome: 'failed', bytesSent, failure });
  };
  try {
    const { platforms, referrers, create } = job;
    for await (const item of fanOut(
      { ...choices, platforms, referrers, create, from: parseLocation(job.from), to },
      backends,
      { ...options, report: reportAbout(options.report, { image: job.from }) },
    )) {
      if ('failure' in item) {
        fail([item.target], item.failure, item.bytesSent);
        continue;
      }
      const { result } = item;
      const { outcome, digest, bytesSent } = result;
      settle({ from: job.from, to: result.to, outcome, digest, bytesSent, result });
    }
  } catch (error) {
    fail(to, error, 0);
  }
  return items;
}

async function tryJobs(
  jobs: readonly CopyJob[],
  choices: TargetChoices,
  backends: Backends,
  options: OperationOptions,
): Promise<readonly ItemResult[]> {
  const requests = jobs.flatMap(({ from, to, platforms, referrers }) =>
    to.map((text) => ({
      ...choices,
      from: parseLocation(from),
      to: parseDestination(text),
      platforms,
      referrers,
      dryRun: true,
    })),
  );
  return copyImages(requests, backends, options);
}
