import { createHash } from 'node:crypto';
import { sameEtag } from '../../util/etag.ts';
import type { Condition, ObjectInfo } from '../objects.ts';

/** The headers that make a write conditional. */
export function headersOf(condition: Condition | undefined): { IfNoneMatch?: string; IfMatch?: string } {
  if (condition === undefined) return {};
  return 'ifAbsent' in condition ? { IfNoneMatch: '*' } : { IfMatch: condition.ifMatch };
}

/** Whether `condition` holds of what is there. */
export function holds(condition: Condition, there: ObjectInfo | undefined): boolean {
  return 'ifAbsent' in condition ? there === undefined : sameEtag(condition.ifMatch, there?.etag);
}

/** The headers that let S3 find out whether the body arrived as it was sent. */
export function integrityOf(
  body: Uint8Array,
  crc: number,
  checksums: boolean,
): { ChecksumCRC32?: string; ContentMD5?: string } {
  return checksums ? { ChecksumCRC32: base64Of(crc) } : { ContentMD5: md5Of(body).toString('base64') };
}

function md5Of(bytes: Uint8Array): Buffer {
  return createHash('md5').update(bytes).digest();
}

/** The ETag of an object or part that was stored whole, where the server does not encrypt it with a key. */
export function etagOf(bytes: Uint8Array): string {
  return `"${md5Of(bytes).toString('hex')}"`;
}

/** The ETag that most servers give an object of these parts; undefined where those of the parts are no MD5. */
export function etagOfParts(etags: readonly string[]): string | undefined {
  const hash = createHash('md5');
  for (const etag of etags) {
    const [, md5] = /^"?([0-9a-f]{32})"?$/u.exec(etag) ?? [];
    if (md5 === undefined) return undefined;
    hash.update(md5, 'hex');
  }
  return `"${hash.digest('hex')}-${etags.length}"`;
}

/** A CRC-32 as S3 writes it: its four bytes, the highest first, in base64. */
export function base64Of(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc);
  return bytes.toString('base64');
}

/** The CRC-32 that S3 writes so. Undefined for anything but that of a whole object or part (a composite one ends in `-` and a number). */
export function crcOf(base64: string | undefined): number | undefined {
  if (base64 === undefined || !/^[A-Za-z0-9+/]{6}==$/u.test(base64)) return undefined;
  return Buffer.from(base64, 'base64').readUInt32BE();
}

/** The key that a list shows as `key`. Encoded only where the answer states it: some servers ignore `EncodingType: url`. */
export function decoded(key: string, encoding: string | undefined): string {
  return encoding === 'url' ? decodeURIComponent(key.replaceAll('+', ' ')) : key;
}
