import { z } from 'zod';
import { isRecord } from '../util/record.ts';
import { checked, digest, moment, name, shown, type Fields } from './checked.ts';

/** A push to a repository of ECR, as EventBridge reports it. Best effort: some never arrive, some arrive twice or late. */
export interface PushEvent {
  /** The id of the event: the same when it is redelivered. */
  readonly id: string;
  readonly account: string;
  readonly region: string;
  readonly repository: string;
  readonly digest: string;
  /** Absent for a push by digest: a child of an index, something that refers to an image, or an image without tags. */
  readonly tag?: string | undefined;
  /** When it was pushed, ISO 8601. */
  readonly at: string;
  readonly mediaType?: string | undefined;
  readonly artifactType?: string | undefined;
}

/** A change of an object in S3, as EventBridge reports it: it was written, or deleted. At least once, and in any order. */
export interface ObjectEvent {
  /** The id of the event: the same when it is redelivered. */
  readonly id: string;
  readonly bucket: string;
  readonly key: string;
}

/** What an event asks for. */
export type ParsedEvent =
  | { readonly type: 'push'; readonly event: PushEvent }
  | { readonly type: 'object'; readonly event: ObjectEvent }
  /** An event that starts nothing: it is done. */
  | { readonly type: 'ignored'; readonly why: string };

const PUSH = z.object({
  id: name,
  account: z.string().regex(/^[0-9]{12}$/, 'expected an account of twelve digits'),
  region: z.string().regex(/^[a-z0-9-]+$/, 'expected a region'),
  time: moment,
  detail: z.object({
    'repository-name': name,
    'image-digest': digest,
    'image-tag': z.string().nullish(),
    'manifest-media-type': z.string().nullish(),
    'artifact-media-type': z.string().nullish(),
  }),
});

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html: the key is as it is, and not encoded as in S3's own notifications. */
const OBJECT = z.object({
  id: name,
  detail: z.object({
    bucket: z.object({ name }),
    object: z.object({ key: z.string('expected a key').min(1, 'expected a key') }),
  }),
});

const OBJECT_CHANGES: ReadonlySet<unknown> = new Set(['Object Created', 'Object Deleted']);

/** Reads an event as EventBridge sends it. INVALID, with the reason, for a push or a change of an object that lacks something needed. */
export function parseEvent(message: Fields): ParsedEvent {
  const type = message['detail-type'];
  if (OBJECT_CHANGES.has(type)) {
    const { id, detail } = checked(OBJECT, message, `event ${shown(type)} of S3`);
    return { type: 'object', event: { id, bucket: detail.bucket.name, key: detail.object.key } };
  }
  return type === 'ECR Image Action'
    ? parsePush(message)
    : { type: 'ignored', why: `an event of type ${shown(type)} starts no job` };
}

/** https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html */
function parsePush(message: Fields): ParsedEvent {
  const detail = isRecord(message['detail']) ? message['detail'] : {};
  const { 'action-type': action, result } = detail;
  if (action !== 'PUSH') return { type: 'ignored', why: `${shown(action)} of an image starts no job` };
  if (result !== 'SUCCESS') return { type: 'ignored', why: `a push with the result ${shown(result)} starts no job` };
  const event = checked(PUSH, message, 'event of a push to ECR');
  const { 'image-tag': tag, 'manifest-media-type': mediaType, 'artifact-media-type': artifactType } = event.detail;
  return {
    type: 'push',
    event: {
      id: event.id,
      account: event.account,
      region: event.region,
      repository: event.detail['repository-name'],
      digest: event.detail['image-digest'],
      at: event.time,
      ...(filled(tag) ? { tag } : {}),
      ...(filled(mediaType) ? { mediaType } : {}),
      ...(filled(artifactType) ? { artifactType } : {}),
    },
  };
}

function filled(text: string | null | undefined): text is string {
  return text !== undefined && text !== null && text !== '';
}
