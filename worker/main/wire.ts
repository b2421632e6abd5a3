import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Readable } from 'node:stream';
import type { TemporaryFolder } from '../archive/unpack.ts';
import type { ConnectOptions, SideOptions } from '../commands/context.ts';
import { routingLarge } from '../queue/large-jobs.ts';
import type { Queue } from '../queue/queue.ts';
import { openSqs } from '../queue/sqs.ts';
import { openFiles } from '../objects/files/store.ts';
import { openS3Late } from '../objects/s3/late-store.ts';
import type { Backends } from '../images/backends.ts';
import type { DeletingBackends, Deletions } from '../images/deletions.ts';
import type { Service } from '../service/service.ts';
import { findCredentials, type RunProgram } from '../registry/credentials.ts';
import { HostBackoff } from '../registry/transport/pauses.ts';
import { openRegistry, type RegistryClient } from '../registry/registry.ts';
import { parseRepositorySettings } from '../registry/ecr/repository-settings.ts';
import { secretCredentials } from '../registry/secrets.ts';
import { openSnapshotKeys } from './snapshot-keys.ts';
import { standardStreams } from './standard-streams.ts';
import type { Settings } from './settings.ts';
import { openDynamo } from '../state/dynamo.ts';
import { openEcs } from '../tasks/ecs.ts';
import type { Tasks } from '../tasks/tasks.ts';
import type { StateStore } from '../state/state.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import { Failure, type Side } from '../util/failure.ts';
import { reportAbout, type Report } from '../util/events.ts';

/** Everything that operations may reach, opened when it is first asked for. Closing it closes all of it. */
export function connect(
  settings: Settings,
  version: string,
  options: ConnectOptions,
  clock: Clock = systemClock,
): Backends & AsyncDisposable {
  return openBackends(settings, version, options, clock).backends;
}

/** As `connect`, for what may delete too: `prune`, `sync --prune`, `verify --restore-to` and the Cleaner. Workers and planners never call it. */
export function connectDeleting(
  settings: Settings,
  version: string,
  options: ConnectOptions,
  clock: Clock = systemClock,
): DeletingBackends & AsyncDisposable {
  const { backends, target, bucket, folder } = openBackends(settings, version, options, clock);
  const images: Deletions['images'] = (host, repository) => target(host).deletions(repository);
  return { ...backends, deletions: { images, bucket, folder } };
}

/** The backends, and what they are made of. */
interface Opened {
  readonly backends: Backends & AsyncDisposable;
  readonly target: (host: string) => RegistryClient;
  readonly bucket: (name: string) => ReturnType<typeof openS3Late>;
  readonly folder: (path: string) => ReturnType<typeof openFiles>;
}

function openBackends(settings: Settings, version: string, options: ConnectOptions, clock: Clock): Opened {
  const opened = new AsyncDisposableStack();
  const closed = new AbortController();
  opened.defer(() => closed.abort());
  const { report } = options;
  const { fips, proxies } = settings;
  const s3 = bucketSettings(settings.s3, options.s3);
  // both sides read the same files
  const reportOnce = onceEach(report);
  const secrets = once((arn) => secretCredentials({ arn, clock, report, proxies }));
  const backoff = once(() => new HostBackoff(clock));
  const registries = (side: Side) => {
    const flags: SideOptions = options[side] ?? {};
    const credentials = findCredentials({
      explicit: flags.credentials,
      files: flags.authFile === undefined ? settings.authFiles : [flags.authFile],
      required: flags.authFile ?? settings.requiredAuthFile,
      run: programsUntil(closed.signal),
      clock,
      report: reportOnce,
    });
    const isExplicit = flags.credentials !== undefined || flags.authFile !== undefined;
    return once((host) => {
      const access = options.access?.[host] ?? {};
      const { assumeRole, externalId } = flags.assumeRole === undefined ? access : flags;
      return opened.use(
        openRegistry(host, {
          side,
          credentials: access.secret === undefined || isExplicit ? credentials : secrets(access.secret),
          prefersCredentials: isExplicit || access.secret !== undefined,
          endpoints: settings.endpoints,
          aws: { assumeRole, externalId, fips, proxies },
          proxies,
          certificates: { folders: settings.certificateFolders, verify: flags.tlsVerify },
          plainHttp: flags.plainHttp,
          create: options.create === false ? undefined : parseRepositorySettings(options.createSettings ?? {}),
          concurrency: options.concurrency,
          version,
          clock,
          report: reportAbout(report, { side }),
          backoff: backoff(host),
        }),
      );
    });
  };
  const sides = { source: registries('source'), target: registries('target') };
  const bucket = once((name) => opened.use(openS3Late({ ...s3, bucket: name, clock, report, proxies })));
  const folder = once((path) => openFiles(path));
  const backends: Opened['backends'] = {
    registry: (host, side) => sides[side](host),
    bucket,
    folder,
    removeUnfinished,
    temporary: temporaryFolder,
    standardStreams: standardStreams(temporaryFolder, opened, report),
    snapshotKeys: openSnapshotKeys(options.snapshotKeys ?? {}, proxies),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
  return { backends, target: sides.target, bucket, folder };
}

const temporaries = new Set<string>();
// also when a second signal ends the process at once
process.once('exit', () => temporaries.forEach((path) => rmSync(path, { recursive: true, force: true })));

/** A folder that is gone with the process at the latest. */
async function temporaryFolder(): Promise<TemporaryFolder> {
  const path = await mkdtemp(join(tmpdir(), 'transship-'));
  temporaries.add(path);
  const { bavail, bsize } = await statfs(path);
  return {
    path,
    freeBytes: bavail * bsize,
    [Symbol.asyncDispose]: async () => {
      await rm(path, { recursive: true, force: true });
      temporaries.delete(path);
    },
  };
}

/** Removes the folder in which `backup store:FILE.tar` prepares the file. BUG for a path that is not named like one. */
async function removeUnfinished(path: string): Promise<void> {
  if (!/^\..+\.tar\.unfinished$/.test(basename(path)))
    throw new Failure('BUG', `remove ${path}: it is not the folder of an unfinished store`);
  await rm(path, { recursive: true, force: true });
}

/** The bucket settings of the command, or else of the environment. */
function bucketSettings(settings: Settings['s3'], options: ConnectOptions['s3']): Settings['s3'] {
  return {
    pathStyle: options?.pathStyle ?? settings.pathStyle,
    noConditions: options?.noConditions ?? settings.noConditions,
    kmsKeyId: options?.kmsKeyId ?? settings.kmsKeyId,
    requesterPays: options?.requesterPays ?? settings.requesterPays,
  };
}

/** What `open` gives for a key, opened when it is first asked for. */
function once<T>(open: (key: string) => T): (key: string) => T {
  const known = new Map<string, T>();
  return (key) => {
    const value = known.get(key) ?? open(key);
    known.set(key, value);
    return value;
  };
}

/** `report`, which drops events that it has seen. */
function onceEach(report: Report): Report {
  const reported = new Set<string>();
  return (event) => {
    const key = JSON.stringify(event);
    if (!reported.has(key)) report(event);
    reported.add(key);
  };
}

/** The table that the environment names. No request is sent yet. INVALID where it names none. */
export function connectState(
  settings: Settings,
  options: { readonly clock?: Clock | undefined; readonly report?: Report | undefined } = {},
): StateStore & AsyncDisposable {
  const { table, proxies, clockSkewSeconds: skewSeconds } = settings;
  const { clock = systemClock, report } = options;
  if (table === undefined)
    throw new Failure(
      'INVALID',
      'this command needs TRANSSHIP_TABLE: set it to what the deployment printed, or start `transship local` and take its environment',
    );
  return openDynamo({ table, clock, report, proxies, skewSeconds });
}

/** The queues and the table that the environment names. Nothing is asked of them yet. INVALID, naming what is missing. */
export function connectService(
  settings: Settings,
  options: { readonly clock?: Clock | undefined; readonly report?: Report | undefined } = {},
): Service & AsyncDisposable {
  const { queueUrl, requestQueueUrl, deadLetterQueueUrl, largeQueueUrl, table, proxies, workerService } = settings;
  const { clock = systemClock, report } = options;
  if (queueUrl === undefined || deadLetterQueueUrl === undefined || table === undefined) {
    const missing = Object.entries({
      TRANSSHIP_QUEUE_URL: queueUrl,
      TRANSSHIP_DEAD_LETTER_QUEUE_URL: deadLetterQueueUrl,
      TRANSSHIP_TABLE: table,
    }).flatMap(([name, value]) => (value === undefined ? [name] : []));
    throw new Failure(
      'INVALID',
      `this command needs ${missing.join(' and ')}: set ${missing.length === 1 ? 'it' : 'them'} to what the deployment printed, or start \`transship local\` and take its environment`,
    );
  }
  const opened = new AsyncDisposableStack();
  const queueOf = (url: string): Queue => opened.use(openSqs({ queueUrl: url, clock, report, proxies }));
  const tasksOf = (service: string | undefined, variable?: string): Tasks | undefined =>
    service === undefined ? undefined : openEcs({ service, variable, proxies });
  const jobs = queueOf(queueUrl);
  const large = largeQueueUrl === undefined ? undefined : queueOf(largeQueueUrl);
  return {
    state: opened.use(openDynamo({ table, clock, report, proxies, skewSeconds: settings.clockSkewSeconds })),
    queue: large === undefined ? jobs : routingLarge(jobs, large),
    requests: requestQueueUrl === undefined ? undefined : queueOf(requestQueueUrl),
    deadLetters: queueOf(deadLetterQueueUrl),
    allow: settings.allow,
    tasks: tasksOf(workerService),
    large:
      large === undefined
        ? undefined
        : {
            queue: large,
            aboveBytes: settings.largeAboveBytes,
            tasks: tasksOf(settings.largeWorkerService, 'TRANSSHIP_LARGE_SERVICE'),
          },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** Helpers ask a keychain, which may ask a person. */
const HELPER_TIMEOUT_MS = 120_000;
const MAX_HELPER_OUTPUT_BYTES = 1024 * 1024;

/** Runs programs to their end, which comes at once when `signal` fires. One that never ends or never stops writing is ended. */
export function programsUntil(signal: AbortSignal): RunProgram {
  return async (program, args, input) => {
    const late = AbortSignal.timeout(HELPER_TIMEOUT_MS);
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      signal: AbortSignal.any([signal, late]),
      killSignal: 'SIGKILL',
    });
    const ended = new Promise<number>((resolve, reject) => {
      child.once('error', (error) =>
        reject(late.aborted ? new Error(`it did not answer in ${HELPER_TIMEOUT_MS / 1000} seconds`) : error),
      );
      child.once('close', (code) => resolve(code ?? 1));
    });
    // a helper that ends without reading is judged by its exit code
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    try {
      const [exitCode, stdout, stderr] = await Promise.all([ended, textOf(child.stdout), textOf(child.stderr)]);
      return { exitCode, stdout, stderr };
    } finally {
      child.kill('SIGKILL');
      // what it has started itself may hold them for longer
      for (const pipe of child.stdio) pipe?.destroy();
    }
  };
}

async function textOf(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.byteLength;
    if (size > MAX_HELPER_OUTPUT_BYTES) throw new Error(`it answered with more than ${MAX_HELPER_OUTPUT_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
