import { randomUUID } from 'node:crypto';
import type { Change, Version } from './records.ts';

/** Where it happened. */
export interface S3EventOrigin {
  readonly account: string;
  readonly region: string;
}

/**
 * The event that Amazon EventBridge sends for a change of an object, as JSON, without the caller and the operation; undefined for changes of
 * other things, and of tags and locks. `before` is the version that the change replaces.
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
 */
export function objectEvent(
  change: Change,
  before: Version | undefined,
  origin: S3EventOrigin,
  nowMs: number,
): string | undefined {
  const detail = detailOf(change, before);
  if (detail === undefined) return undefined;
  const { type, bucket, ...more } = detail;
  return JSON.stringify({
    version: '0',
    id: randomUUID(),
    'detail-type': type,
    source: 'aws.s3',
    account: origin.account,
    time: new Date(nowMs).toISOString().replace(/\.\d+/, ''),
    region: origin.region,
    resources: [`arn:aws:s3:::${bucket}`],
    detail: { version: '0', bucket: { name: bucket }, ...more },
  });
}

function detailOf(
  change: Change,
  before: Version | undefined,
): (Readonly<Record<string, unknown>> & { readonly type: string; readonly bucket: string }) | undefined {
  if (change.type === 'version-removed') {
    const { bucket, key, versionId } = change;
    const object = { key, 'version-id': versionId };
    return { type: 'Object Deleted', bucket, object, 'deletion-type': 'Permanently Deleted' };
  }
  if (change.type !== 'version') return undefined;
  const { bucket, key, version } = change;
  const object = { key, 'version-id': version.versionId };
  if (version.kind === 'marker')
    return { type: 'Object Deleted', bucket, object, 'deletion-type': 'Delete Marker Created' };
  // the same version with other tags or another lock
  if (before?.order === version.order) return undefined;
  const { bytes: size, etag } = version;
  return { type: 'Object Created', bucket, object: { ...object, size, etag } };
}
