import { S3Error } from './error.ts';
import {
  checkVersionId,
  createId,
  noSuchKey,
  preconditionFailed,
  readDocument,
  sameEtag,
  type S3Answer,
  type S3Request,
} from './request.ts';
import type { Change, ObjectVersion, Version } from './records.ts';
import { renderXml, type XmlElements } from './xml.ts';

const MAX_DELETES = 1000;

export function deleteObject(request: S3Request): S3Answer {
  const versionId = request.query.get('versionId');
  const deletion = planDeletion(request, request.key, versionId, request.headers.get('if-match'));
  request.store.commit(...deletion.changes);
  return {
    status: 204,
    headers: {
      'x-amz-delete-marker': deletion.isMarker ? 'true' : undefined,
      'x-amz-version-id': deletion.versionId,
    },
  };
}

interface Deletion {
  readonly changes: readonly Change[];
  /** The version that was removed, or the marker that was added. */
  readonly versionId: string | undefined;
  readonly isMarker: boolean;
}

/** Without a version id nothing is lost in a bucket with versions: a delete marker goes on top. */
function planDeletion(
  request: S3Request,
  key: string,
  versionId: string | undefined,
  ifMatch: string | undefined,
): Deletion {
  const { bucket, store, settings } = request;
  if (settings.undeletable.some((prefix) => key.startsWith(prefix))) throw new S3Error('AccessDenied', 'Access Denied');
  const { versioning } = store.bucket(bucket).settings;
  const versions = store.bucket(bucket).versions.get(key) ?? [];
  if (versionId !== undefined) checkVersionId(versionId);
  if (ifMatch !== undefined) checkDeleteCondition(key, versions[0], ifMatch);
  if (versionId !== undefined || versioning === undefined) {
    const id = versionId ?? 'null';
    const version = versions.find((candidate) => candidate.versionId === id);
    if (version?.kind === 'object') refuseLocked(request, version);
    return {
      changes: version === undefined ? [] : [{ type: 'version-removed', bucket, key, versionId: id }],
      versionId,
      isMarker: version?.kind === 'marker',
    };
  }
  const marker: Version = {
    kind: 'marker',
    versionId: versioning === 'Enabled' ? createId() : 'null',
    order: store.nextOrder(),
    modifiedMs: Date.now(),
  };
  const changes: Change[] = [{ type: 'version', bucket, key, version: marker }];
  return { changes, versionId: marker.versionId, isMarker: true };
}

function checkDeleteCondition(key: string, current: Version | undefined, ifMatch: string): void {
  if (current === undefined) throw noSuchKey(key);
  if (current.kind !== 'object' || (ifMatch !== '*' && !sameEtag(ifMatch, current.etag)))
    throw preconditionFailed('If-Match');
}

function refuseLocked(request: S3Request, version: ObjectVersion): void {
  const { retention } = version;
  const isRetained = retention !== undefined && retention.untilMs > Date.now();
  const mayBypass =
    retention?.mode === 'GOVERNANCE' &&
    request.headers.get('x-amz-bypass-governance-retention')?.toLowerCase() === 'true';
  if (version.legalHold || (isRetained && !mayBypass))
    throw new S3Error('AccessDenied', 'Access Denied because object protected by object lock.');
}

export async function deleteObjects(request: S3Request): Promise<S3Answer> {
  const document = await readDocument(request, 'Delete', { mustBeProtected: true });
  document.allow('Object', 'Quiet');
  const objects = document.all('Object');
  if (objects.length === 0 || objects.length > MAX_DELETES) throw new S3Error('MalformedXML');
  request.store.bucket(request.bucket);
  const deleted: XmlElements[] = [];
  const failed: XmlElements[] = [];
  for (const object of objects) {
    object.allow('Key', 'VersionId', 'ETag');
    const key = object.textOf('Key');
    const versionId = object.textOf('VersionId');
    if (key === undefined || key === '') throw new S3Error('MalformedXML');
    try {
      const ignores = request.settings.quirks.has('ignores-conditions');
      const deletion = planDeletion(request, key, versionId, ignores ? undefined : object.textOf('ETag'));
      request.store.commit(...deletion.changes);
      deleted.push({
        Key: key,
        VersionId: versionId,
        DeleteMarker: deletion.isMarker ? true : undefined,
        DeleteMarkerVersionId: deletion.isMarker ? deletion.versionId : undefined,
      });
    } catch (error) {
      if (!(error instanceof S3Error)) throw error;
      failed.push({ Key: key, VersionId: versionId, Code: error.code, Message: error.message });
    }
  }
  const isQuiet = document.textOf('Quiet') === 'true';
  return { document: renderXml('DeleteResult', { Deleted: isQuiet ? [] : deleted, Error: failed }) };
}
