import type { Backends } from '../../images/backends.ts';
import { verifyPlace } from '../../images/verify.ts';
import type { Finding, Looked, PlaceRequest, PlaceResult } from '../../images/verify-result.ts';
import type { VerifyJob } from '../../queue/job.ts';
import { Failure } from '../../util/failure.ts';
import { isRecord } from '../../util/record.ts';
import type { Sample } from '../../util/sample.ts';
import type { RunJobOptions } from './job-run.ts';

// A verification that takes longer than the twelve hours of one message is done in parts. The state remembers which parts are done, so another worker
// begins with the next. Each part lists the place again, so the first message tries the whole place at once.

/** How many parts a verification has that was handed over. */
const PARTS = 20;
/** How many findings the state remembers, and how many characters of each: an item of the table has 400 KB. */
const MAX_FINDINGS = 100;
const MAX_MESSAGE = 500;

/** The result of the parts that are done. */
interface Progress {
  /** How many parts are done. */
  readonly done: number;
  readonly names: Looked;
  readonly blobs?: Looked | undefined;
  readonly hashedBytes: number;
  readonly findings: readonly Finding[];
}

const NOTHING: Progress = { done: 0, names: { checked: 0, of: 0 }, hashedBytes: 0, findings: [] };

/**
 * Verifies a place: as a whole by the first message of a job, and part by part by later ones, which begin after the parts that the state records as
 * done. A result of parts is never `complete`, because they were looked at at different times.
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
    // the part is not done, so the next attempt begins with it
    if (passing?.code !== undefined) throw new Failure(passing.code, `verify ${passing.at}: ${passing.message}`);
    progress = after(progress, last, place.kind === 'registry');
    await options.runs.setVerified(run, id, JSON.stringify(progress), options);
  }
  // an earlier attempt did all parts, and did not end the job: the last one is looked at once more
  last ??= await verifyPlace({ ...request, sample: partOf(sample, PARTS - 1) }, backends, options);
  const { names, blobs, hashedBytes, findings } = progress;
  return { ...last, sample, names, blobs, hashedBytes, findings, images: [], complete: false };
}

/** One part of a sample, or of everything. Together the parts are all of it. */
function partOf({ slice, slices }: Sample = { slice: 0, slices: 1 }, part: number): Sample {
  return { slice: slice + slices * part, slices: slices * PARTS };
}

/** The progress with one more part. `adds`: each part looks at other names, as in registries; elsewhere each looks at all names. */
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

/** Reads what another worker remembered. What another version wrote counts as nothing, and the parts are done again. */
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
