import { S3Error } from './error.ts';

/** How other S3s differ from Amazon's. */
export type S3Quirk =
  /** Writes with `If-Match` or `If-None-Match` are answered 501, as by Backblaze B2. */
  | 'refuses-conditions'
  /** Conditions are ignored, of writes and reads, as by Google's. */
  | 'ignores-conditions'
  /** Requests with `x-amz-checksum-*` are answered 400, as by Backblaze B2. */
  | 'refuses-checksums'
  /** Checksums are accepted and appear in no answer, as in moto. */
  | 'forgets-checksums'
  /** Lists of parts show no checksums, though objects keep them, as by SeaweedFS. */
  | 'lists-no-checksums'
  /** ETags are no MD5, as under KMS. */
  | 'opaque-etags'
  /** Complete has to list every part that is stored, as in Ceph, and ids of requests have Ceph's form. */
  | 'counts-parts'
  /** Names in lists are not encoded, whatever was asked for. */
  | 'lists-raw-keys'
  /** A bucket without unfinished uploads is answered NoSuchUpload when they are listed, as by gofakes3. */
  | 'misses-uploads'
  /** The number after which a list of parts begins is taken for an index, as by moto. */
  | 'counts-from-marker'
  /** Lists are cut after one page, without a word on how to go on. */
  | 'loses-tokens'
  /** Requests have to say that the requester pays, unless they make the bucket. */
  | 'requester-pays';

export type S3Quirks = ReadonlySet<S3Quirk>;

interface Asked {
  readonly method: string;
  /** Empty for requests about a bucket. */
  readonly key: string;
  readonly headers: ReadonlyMap<string, string>;
}

const CONDITIONS = new Set(['if-match', 'if-none-match']);
const WRITES = new Set(['PUT', 'POST']);

/** The headers of a request as a server with these quirks sees them. Throws what it answers instead. */
export function seenHeaders(quirks: S3Quirks, { method, key, headers }: Asked): ReadonlyMap<string, string> {
  const isCondition = (name: string): boolean => CONDITIONS.has(name);
  const isChecksum = (name: string): boolean => name.startsWith('x-amz-checksum-');
  const has = (is: (name: string) => boolean): string | undefined => [...headers.keys()].find(is);
  const isOwner = method === 'PUT' && key === '';
  if (quirks.has('requester-pays') && !isOwner && headers.get('x-amz-request-payer') !== 'requester')
    throw new S3Error('AccessDenied');
  if (quirks.has('refuses-conditions') && WRITES.has(method) && has(isCondition) !== undefined)
    throw new S3Error('NotImplemented');
  const checksum = has(isChecksum);
  if (quirks.has('refuses-checksums') && checksum !== undefined)
    throw new S3Error('InvalidArgument', `Unsupported header '${checksum}' received for this API call.`);
  const isUnseen = (name: string): boolean =>
    (quirks.has('ignores-conditions') && isCondition(name)) || (quirks.has('forgets-checksums') && isChecksum(name));
  return new Map([...headers].filter(([name]) => !isUnseen(name)));
}
