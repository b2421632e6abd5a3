import type { Condition } from '../objects.ts';

/** The headers that make a write conditional. */
export function headersOf(condition: Condition | undefined): { IfNoneMatch?: string; IfMatch?: string } {
  if (condition === undefined) return {};
  return 'ifAbsent' in condition ? { IfNoneMatch: '*' } : { IfMatch: condition.ifMatch };
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

/** The key that a list with `EncodingType: url` shows as `key`. */
export function decoded(key: string): string {
  return decodeURIComponent(key.replaceAll('+', ' '));
}
