import type { Backends, OperationOptions } from '../../images/backends.ts';
import { drill } from '../../images/drill.ts';
import { verify } from '../../images/verify.ts';
import type { BackupPlace } from '../../images/open-backups.ts';
import { storeAndPrefix } from '../../images/open-place.ts';
import { recordOfDrill, recordOfVerification, writeProof, type ProofRecord } from '../../images/proof-record.ts';
import type { Finding } from '../../images/verify-result.ts';
import { isPlace, parsePlace } from '../../oci/place.ts';
import { parseLocation } from '../../oci/location.ts';
import type { VerifyJob } from '../../queue/job.ts';
import { parseVerified } from '../../rules/verify-schema.ts';
import { checkAborted } from '../../util/abort.ts';
import { describeFailure, Failure, type Code } from '../../util/failure.ts';
import { quote } from '../../util/text.ts';
import { markOfDrill } from '../drill-mark.ts';
import { verifyParts } from './verify-parts.ts';
import type { Done, RunJobOptions } from './job-run.ts';

/** How many findings one failure names. The logs have the others. */
const NAMED = 5;

/**
 * Verifies an image or a place, or restores a part of a place in a drill. Where something is not as it should be, the job fails with CORRUPT and
 * names it: another attempt would find it again. Where the only findings are `unread`, it fails with their code. INVALID for what no worker
 * reaches. Idempotent: a verification does not change the place, and a drill goes on in the scratch repositories that it made. Both leave a record
 * beside the snapshots.
 */
export async function verifyAt(job: VerifyJob, backends: Backends, options: RunJobOptions): Promise<Done> {
  const { restoreTo } = job;
  const findings =
    restoreTo !== undefined
      ? await drillAt({ ...job, restoreTo }, backends, options)
      : isOfPlace(job)
        ? await verifyMany(job, backends, options)
        : await verifyOne(job, backends, options);
  const [first] = findings;
  if (first === undefined) return { state: 'done' };
  const what = `${restoreTo === undefined ? 'verify' : 'drill'} ${job.from}`;
  for (const { kind, at, message } of findings)
    options.report?.({ type: 'warning', message: `${what}: ${kind}: ${at}: ${message}` });
  const named = findings.slice(0, NAMED).map(({ kind, at, message }) => `${kind}: ${at}: ${message}`);
  const more = findings.length > named.length ? `; and ${findings.length - named.length} more` : '';
  throw new Failure(codeOf(findings), `${what}: ${named.join('; ')}${more}`, {
    context: { findings: findings.length },
  });
}

/** The code of the failure: CORRUPT, or that of an `unread` finding where there are no others. One that may pass comes first. */
function codeOf(findings: readonly Finding[]): Code {
  if (findings.some(({ kind }) => kind !== 'unread')) return 'CORRUPT';
  const codes = findings.flatMap(({ code }) => code ?? []);
  return codes.find((code) => new Failure(code, '').retryable) ?? codes[0] ?? 'CORRUPT';
}

/** Restores a part of a place into scratch repositories. A Cleaner deletes them when the job has ended. */
async function drillAt(
  job: VerifyJob & { readonly restoreTo: string },
  backends: Backends,
  options: OperationOptions,
): Promise<readonly Finding[]> {
  const { from, sample, restoreTo } = job;
  const place = parsePlace(parseVerified(from));
  if (place.kind === 'registry')
    throw new Failure('INVALID', `drill ${quote(from)}: a registry has no snapshots: name a store or archives`);
  const startedAt = new Date(options.clock.now()).toISOString();
  const result = await drill({ place, restoreTo, id: job.id, mark: markOfDrill(job), sample }, backends, options);
  await keepProof(place, (finishedAt) => recordOfDrill(result, { startedAt, finishedAt }), job, backends, options);
  const { scratch, images, equal, bytesSent, findings } = result;
  const counts = { sample, images, equal, bytesSent, findings: findings.length };
  options.report?.({ type: 'drill-ended', place: from, scratch, ...counts });
  return findings;
}

/** Whether `from` is a place. Of a rule a repository with a tag is one too; the key of one archive is never one. */
function isOfPlace({ rule, from, against }: VerifyJob): boolean {
  return isPlace(from) || (rule !== undefined && against === undefined && !from.startsWith('s3:'));
}

async function verifyMany(job: VerifyJob, backends: Backends, options: RunJobOptions): Promise<readonly Finding[]> {
  const { from, against, depth, sample } = job;
  if (against !== undefined)
    throw new Failure('INVALID', `verify ${quote(from)}: only one image is compared with another: leave out "against"`);
  const place = parsePlace(parseVerified(from));
  const startedAt = new Date(options.clock.now()).toISOString();
  const result = await verifyParts({ place, depth, sample }, job, backends, options);
  if (place.kind !== 'registry')
    await keepProof(
      place,
      (finishedAt) => recordOfVerification(result, { startedAt, finishedAt }),
      job,
      backends,
      options,
    );
  const { names, blobs, hashedBytes, findings, complete } = result;
  options.report?.({
    type: 'verify-ended',
    place: from,
    depth: result.depth,
    sample,
    names,
    blobs,
    hashedBytes,
    findings: findings.length,
    complete,
  });
  return findings;
}

/** Writes the record of a verification or drill beside the snapshots. A failure is reported as a note. Throws only ABORTED. */
async function keepProof(
  { root }: BackupPlace,
  record: (finishedAt: string) => ProofRecord,
  { id }: VerifyJob,
  backends: Backends,
  options: OperationOptions,
): Promise<void> {
  const where = storeAndPrefix(root, backends);
  try {
    await writeProof(where, record(new Date(options.clock.now()).toISOString()), id, options);
  } catch (error) {
    checkAborted(options);
    const place = where.store.describe(where.prefix);
    options.report?.({ type: 'note', message: `no record of it was written to ${place}: ${describeFailure(error)}` });
  }
}

async function verifyOne(
  { from, against, depth, sample }: VerifyJob,
  backends: Backends,
  options: OperationOptions,
): Promise<readonly Finding[]> {
  if (sample !== undefined)
    throw new Failure('INVALID', `verify ${quote(from)}: one image has no parts: leave out "sample"`);
  for (const text of against === undefined ? [from] : [from, against]) checkReached(text);
  const results = await verify({ at: from, against, depth: depth ?? 'bytes' }, backends, options);
  return results.flatMap(({ at, faults }) => faults.map((message): Finding => ({ kind: 'faulty', at, message })));
}

/** A message must not make a worker read files of its own machine. */
function checkReached(text: string): void {
  const { transport } = parseLocation(text);
  if (transport !== 'docker' && transport !== 's3')
    throw new Failure(
      'INVALID',
      `${quote(text)} is not a place that a worker reaches: name docker://, s3:// or store:s3://`,
    );
}
