import type { Condition } from '../objects.ts';

/** The headers that make a write conditional. */
export function headersOf(condition: Condition | undefined): { IfNoneMatch?: string; IfMatch?: string } {
  if (condition === undefined) return {};
  return 'ifAbsent' in condition ? { IfNoneMatch: '*' } : { IfMatch: condition.ifMatch };
}

/** As S3 writes it: the four bytes, the highest first, in base64. */
export function base64Of(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc);
  return bytes.toString('base64');
}

/** Undefined for anything but the CRC-32 of a whole (a composite one ends in `-` and the number of parts). */
export function crcOf(base64: string | undefined): number | undefined {
  if (base64 === undefined || !/^[A-Za-z0-9+/]{6}==$/u.test(base64)) return undefined;
  return Buffer.from(base64, 'base64').readUInt32BE();
}

/** A key as a list with `EncodingType: url` has it. */
export function decoded(key: string): string {
  return decodeURIComponent(key.replaceAll('+', ' '));
}
