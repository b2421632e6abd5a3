import type { Backends } from '../../images/backends.ts';
import { verifyPlace } from '../../images/verify.ts';
import type { Finding, Looked, PlaceRequest, PlaceResult } from '../../images/verify-result.ts';
import type { VerifyJob } from '../../queue/job.ts';
import { Failure } from '../../util/failure.ts';
import { isRecord } from '../../util/record.ts';
import type { Sample } from '../../util/sample.ts';
import type { RunJobOptions } from './job-run.ts';

// A verification that no worker could end in the twelve hours of one message is done in parts, and the state remembers those that are done: a worker that
// goes on begins with the next. Each part lists the place again, so one that fits into one message is done at once.

/** Parts of a verification that was handed over. */
const PARTS = 20;
/** Findings that the state remembers, and characters of each: an item of the table has 400 KB. What is over is in the log. */
const MAX_FINDINGS = 100;
const MAX_MESSAGE = 500;

/** What the parts so far came to. */
interface Progress {
  /** Parts that are done. */
  readonly done: number;
  readonly names: Looked;
  readonly blobs?: Looked | undefined;
  readonly hashedBytes: number;
  readonly findings: readonly Finding[];
}

const NOTHING: Progress = { done: 0, names: { checked: 0, of: 0 }, hashedBytes: 0, findings: [] };

/**
 * Verifies a place part by part, after those that the state says are done. Of the first delivery of a job it is one part. The result is never `complete`: its
 * parts were looked at at different times.
 */
export async function verifyParts(
  request: PlaceRequest,
  { run, id, handovers = 0 }: Pick<VerifyJob, 'run' | 'id' | 'handovers'>,
  backends: Backends,
  options: RunJobOptions,
): Promise<PlaceResult> {
  if (handovers === 0) return verifyPlace(request, backends, options);
  const { place, sample } = request;
  let progress = parseProgress((await options.runs.job(run, id, options))?.verified);
  let last: PlaceResult | undefined;
  for (let part = progress.done; part < PARTS; part++) {
    last = await verifyPlace({ ...request, sample: partOf(sample, part) }, backends, options);
    const passing = last.findings.find(({ code }) => code !== undefined && new Failure(code, '').retryable);
    // the part is not done: the next attempt begins with it
    if (passing?.code !== undefined) throw new Failure(passing.code, `verify ${passing.at}: ${passing.message}`);
    progress = after(progress, last, place.kind === 'registry');
    await options.runs.setVerified(run, id, JSON.stringify(progress), options);
  }
  // all were done, and the job did not end: the names are looked at once more
  last ??= await verifyPlace({ ...request, sample: partOf(sample, PARTS - 1) }, backends, options);
  const { names, blobs, hashedBytes, findings } = progress;
  return { ...last, sample, names, blobs, hashedBytes, findings, images: [], complete: false };
}

/** One of the parts of a sample, or of everything: together they are all of it. */
function partOf({ slice, slices }: Sample = { slice: 0, slices: 1 }, part: number): Sample {
  return { slice: slice + slices * part, slices: slices * PARTS };
}

/** Names are all looked at with each part, but for those of registries. */
function after(before: Progress, { names, blobs, hashedBytes, findings }: PlaceResult, adds: boolean): Progress {
  const known = new Set(before.findings.map(keyOf));
  const more = findings
    .filter((one) => !known.has(keyOf(one)))
    .map(({ kind, at, message, code }): Finding => ({ kind, at, message: message.slice(0, MAX_MESSAGE), code }));
  const read = blobs === undefined ? undefined : (before.blobs?.checked ?? 0) + blobs.checked;
  return {
    done: before.done + 1,
    names: adds ? { checked: Math.min(names.of, before.names.checked + names.checked), of: names.of } : names,
    ...(blobs === undefined || read === undefined
      ? {}
      : { blobs: { checked: Math.min(blobs.of, read), of: blobs.of } }),
    hashedBytes: before.hashedBytes + hashedBytes,
    findings: [...before.findings, ...more].slice(0, MAX_FINDINGS),
  };
}

function keyOf({ kind, at, message }: Finding): string {
  return `${kind} ${at} ${message.slice(0, MAX_MESSAGE)}`;
}

/** What another worker remembered. Another version's counts as nothing: the parts are done again. */
function parseProgress(text: string | undefined): Progress {
  if (text === undefined) return NOTHING;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return NOTHING;
  }
  return isProgress(value) ? value : NOTHING;
}

function isProgress(value: unknown): value is Progress {
  if (!isRecord(value)) return false;
  const { done, names, blobs, hashedBytes, findings } = value;
  return (
    typeof done === 'number' &&
    isRecord(names) &&
    (blobs === undefined || isRecord(blobs)) &&
    typeof hashedBytes === 'number' &&
    Array.isArray(findings)
  );
}
