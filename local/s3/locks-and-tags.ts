import { S3Error } from './error.ts';
import {
  checkTags,
  findObject,
  isoTime,
  parseRetention,
  readDocument,
  requireObjectLock,
  versionHeader,
  type S3Answer,
  type S3Request,
} from './request.ts';
import type { ObjectVersion, Retention } from './records.ts';
import { renderXml } from './xml.ts';

function find(request: S3Request): ObjectVersion {
  return findObject(request.store, request.bucket, request.key, request.query.get('versionId'));
}

function change(request: S3Request, version: ObjectVersion, status = 200): S3Answer {
  request.store.commit({ type: 'version', bucket: request.bucket, key: request.key, version });
  return { status, headers: versionHeader(request.store, request.bucket, version.versionId) };
}

export function getObjectTagging(request: S3Request): S3Answer {
  const object = find(request);
  const tags = Object.entries(object.tags).map(([Key, Value]) => ({ Key, Value }));
  return {
    headers: versionHeader(request.store, request.bucket, object.versionId),
    document: renderXml('Tagging', { TagSet: { Tag: tags } }),
  };
}

export async function putObjectTagging(request: S3Request): Promise<S3Answer> {
  const document = await readDocument(request, 'Tagging', { mustBeProtected: true });
  const set = document.allow('TagSet').one('TagSet')?.allow('Tag');
  if (set === undefined) throw new S3Error('MalformedXML');
  const tags = set.all('Tag').map((tag) => {
    const [key, value] = [tag.textOf('Key'), tag.textOf('Value')];
    if (key === undefined || value === undefined) throw new S3Error('MalformedXML');
    return [key, value] as const;
  });
  return change(request, { ...find(request), tags: checkTags(tags) });
}

export function deleteObjectTagging(request: S3Request): S3Answer {
  return change(request, { ...find(request), tags: {} }, 204);
}

export function getObjectRetention(request: S3Request): S3Answer {
  requireObjectLock(request);
  const { retention } = find(request);
  if (retention === undefined) throw noLock();
  return {
    document: renderXml('Retention', { Mode: retention.mode, RetainUntilDate: isoTime(retention.untilMs) }),
  };
}

export async function putObjectRetention(request: S3Request): Promise<S3Answer> {
  const document = await readDocument(request, 'Retention', { mustBeProtected: true });
  document.allow('Mode', 'RetainUntilDate');
  requireObjectLock(request);
  const nowMs = Date.now();
  const [mode, until] = [document.textOf('Mode'), document.textOf('RetainUntilDate')];
  if ((mode === undefined) !== (until === undefined)) throw new S3Error('MalformedXML');
  const retention = mode === undefined || until === undefined ? undefined : parseRetention(mode, until, nowMs);
  const object = find(request);
  refuseWeaker(request, object.retention, retention, nowMs);
  return change(request, { ...object, retention });
}

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html: compliance only ever grows, governance shrinks with a bypass. */
function refuseWeaker(
  request: S3Request,
  before: Retention | undefined,
  after: Retention | undefined,
  nowMs: number,
): void {
  if (before === undefined || before.untilMs <= nowMs) return;
  const isWeaker =
    after === undefined ||
    after.untilMs < before.untilMs ||
    (before.mode === 'COMPLIANCE' && after.mode === 'GOVERNANCE');
  const mayBypass =
    before.mode === 'GOVERNANCE' && request.headers.get('x-amz-bypass-governance-retention')?.toLowerCase() === 'true';
  if (isWeaker && !mayBypass)
    throw new S3Error('AccessDenied', 'Access Denied because object protected by object lock.');
}

export function getObjectLegalHold(request: S3Request): S3Answer {
  requireObjectLock(request);
  return { document: renderXml('LegalHold', { Status: find(request).legalHold ? 'ON' : 'OFF' }) };
}

export async function putObjectLegalHold(request: S3Request): Promise<S3Answer> {
  const document = await readDocument(request, 'LegalHold', { mustBeProtected: true });
  const status = document.allow('Status').textOf('Status');
  requireObjectLock(request);
  if (status !== 'ON' && status !== 'OFF') throw new S3Error('MalformedXML');
  return change(request, { ...find(request), legalHold: status === 'ON' });
}

function noLock(): S3Error {
  return new S3Error('NoSuchObjectLockConfiguration');
}
