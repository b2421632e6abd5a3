import { DeleteObjectCommand, DeleteObjectsCommand } from '@aws-sdk/client-s3';
import { codeOfName } from '../../util/aws-errors.ts';
import { checkAborted, type Abortable } from '../../util/abort.ts';
import { sameEtag } from '../../util/etag.ts';
import { Failure, isFailure } from '../../util/failure.ts';
import { forEachOf } from '../../util/limit.ts';
import { append } from '../../util/lists.ts';
import type { Doomed, NotRemoved } from '../deletable.ts';
import type { Bucket } from './client.ts';
import { isRefusal, isS3Error, isUnsupported } from './failure.ts';
import { statIfThere } from './read.ts';

/** https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html */
const KEYS_PER_CALL = 1000;
const LOOKS_AT_ONCE = 8;
/** How often what S3 is too busy for is asked for, the first time included. */
const ATTEMPTS = 3;
const ACTION = 's3:DeleteObject';

/** As `DeletableStore.remove`. Keys that XML cannot carry are deleted one by one, as are all where the server does not take checksums. */
export async function removeObjects(
  bucket: Bucket,
  items: readonly Doomed[],
  options: Abortable = {},
): Promise<readonly NotRemoved[]> {
  const notRemoved: NotRemoved[] = [];
  const alone = items.filter(({ key }) => !isXml(key));
  const together = items.filter(({ key }) => isXml(key));
  for (let at = 0; at < together.length; at += KEYS_PER_CALL) {
    checkAborted(options);
    const batch = together.slice(at, at + KEYS_PER_CALL);
    append(notRemoved, await removeBatch(bucket, batch, options));
  }
  append(notRemoved, await removeEach(bucket, alone, options));
  return notRemoved;
}

async function removeBatch(
  bucket: Bucket,
  batch: readonly Doomed[],
  options: Abortable,
): Promise<readonly NotRemoved[]> {
  const { changed, unchanged } = await looked(bucket, batch, options);
  const notRemoved = [...changed];
  let left = unchanged;
  for (let attempt = 1; left.length > 0; attempt++) {
    const failures = await deleteTogether(bucket, left, options);
    if (failures === undefined) return [...notRemoved, ...(await removeEach(bucket, left, options))];
    // some of a request can be more than S3 has time for, and are asked for again
    const { busy = [], refused = [] } = Object.groupBy(failures, ({ failure }) =>
      failure.retryable && attempt < ATTEMPTS ? 'busy' : 'refused',
    );
    append(notRemoved, refused);
    if (busy[0] !== undefined) await bucket.backOff(busy[0].failure, attempt, options);
    const again = new Set(busy.map(({ key }) => key));
    left = left.filter(({ key }) => again.has(key));
  }
  return notRemoved;
}

/** One DeleteObjects. Undefined where the server does not take it as it has to be sent. */
async function deleteTogether(
  bucket: Bucket,
  batch: readonly Doomed[],
  options: Abortable,
): Promise<readonly NotRemoved[] | undefined> {
  if (!bucket.dialect.takes.checksums) return undefined;
  const conditional = comparesEtags(bucket);
  const Objects = batch.map(({ key, etag }) => ({ Key: key, ...(conditional ? { ETag: etag } : {}) }));
  try {
    const { Errors = [] } = await bucket.call(
      { doing: 'delete objects of', key: '', action: ACTION },
      async (client, http) =>
        client.send(new DeleteObjectsCommand({ ...bucket.location, Delete: { Objects, Quiet: true } }), http),
      options,
    );
    return Errors.flatMap(({ Key: key = '', Code: code = '', Message: message = '' }) =>
      code === 'NoSuchKey' ? [] : [{ key, failure: failureOf(bucket, key, code, message) }],
    );
  } catch (error) {
    if (isUnsupported(error) || isFailure(error, 'UNSUPPORTED')) return undefined;
    throw error;
  }
}

async function removeEach(
  bucket: Bucket,
  items: readonly Doomed[],
  options: Abortable,
): Promise<readonly NotRemoved[]> {
  const notRemoved: NotRemoved[] = [];
  await forEachOf(
    items,
    LOOKS_AT_ONCE,
    async (item, taskOptions) => {
      const failure = await removeOne(bucket, item, taskOptions);
      if (failure !== undefined) notRemoved.push({ key: item.key, failure });
    },
    options,
  );
  return notRemoved;
}

async function removeOne(bucket: Bucket, item: Doomed, options: Abortable): Promise<Failure | undefined> {
  const { key, etag } = item;
  const { changed } = await looked(bucket, [item], options);
  if (changed[0] !== undefined) return changed[0].failure;
  const condition = comparesEtags(bucket) ? { IfMatch: etag } : {};
  try {
    await bucket.call(
      { doing: 'delete', key, action: ACTION },
      async (client, http) => client.send(new DeleteObjectCommand({ ...bucket.object(key), ...condition }), http),
      options,
    );
    return undefined;
  } catch (error) {
    if (isS3Error(error, 'NoSuchKey')) return undefined;
    if (isRefusal(error)) return writtenSince(bucket, key);
    if (isFailure(error, 'DENIED')) return lockedOrDenied(bucket, key, error.message);
    if (isFailure(error) && !error.retryable && error.code !== 'ABORTED') return error;
    throw error;
  }
}

/** Whether the server compares ETags itself. Other servers than Amazon's ignore conditions of deletes, or do not know them. */
function comparesEtags({ dialect }: Bucket): boolean {
  return dialect.takes.conditions && !dialect.isForeign;
}

/** The `items` whose ETag changed. Used if the server does not compare ETags itself. */
async function looked(
  bucket: Bucket,
  items: readonly Doomed[],
  options: Abortable,
): Promise<{ readonly changed: readonly NotRemoved[]; readonly unchanged: readonly Doomed[] }> {
  if (comparesEtags(bucket)) return { changed: [], unchanged: items };
  const changed = new Map<string, NotRemoved>();
  await forEachOf(
    items,
    LOOKS_AT_ONCE,
    async ({ key, etag }, taskOptions) => {
      const there = await statIfThere(bucket, key, taskOptions);
      if (there !== undefined && !sameEtag(there.etag, etag))
        changed.set(key, { key, failure: writtenSince(bucket, key) });
    },
    options,
  );
  return { changed: [...changed.values()], unchanged: items.filter(({ key }) => !changed.has(key)) };
}

function failureOf(bucket: Bucket, key: string, code: string, message: string): Failure {
  if (code === 'PreconditionFailed') return writtenSince(bucket, key);
  if (codeOfName(code) === 'DENIED') return lockedOrDenied(bucket, key, message);
  const what = `delete ${bucket.describe(key)}: S3 answered ${code}${message === '' ? '' : `: ${message}`}`;
  return new Failure(codeOfName(code) ?? 'INVALID', what, { context: { error: code } });
}

function writtenSince(bucket: Bucket, key: string): Failure {
  return new Failure('CONFLICT', `delete ${bucket.describe(key)}: it was written again in the meantime, so it stays`);
}

function lockedOrDenied(bucket: Bucket, key: string, said: string): Failure {
  const what = `delete ${bucket.describe(key)}: it is locked (object lock, legal hold), or ${ACTION} and s3:GetObject are not allowed`;
  return new Failure('DENIED', said === '' ? what : `${what} (${said})`);
}

/** Whether XML 1.0 can carry the key: https://www.w3.org/TR/xml/#charsets */
function isXml(key: string): boolean {
  // oxlint-disable-next-line no-control-regex -- exactly these cannot be in XML
  return key.isWellFormed() && !/[\u0000-\u0008\u000b-\u001f\ufffe\uffff]/u.test(key);
}
