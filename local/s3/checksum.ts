import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

export const CHECKSUM_ALGORITHMS = ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256'] as const;
export type ChecksumAlgorithm = (typeof CHECKSUM_ALGORITHMS)[number];
/** Whether the checksum is that of the whole content, or of the parts' checksums. */
export type ChecksumType = 'FULL_OBJECT' | 'COMPOSITE';

/** Takes bytes and ends in a digest, big-endian as on the wire. */
export interface Hasher {
  update(bytes: Uint8Array): void;
  digest(): Buffer;
}

export const DIGEST_BYTES: Readonly<Record<ChecksumAlgorithm, number>> = {
  CRC32: 4,
  CRC32C: 4,
  CRC64NVME: 8,
  SHA1: 20,
  SHA256: 32,
};

export function createHasher(algorithm: ChecksumAlgorithm | 'MD5'): Hasher {
  switch (algorithm) {
    case 'CRC32':
      return new Crc32();
    case 'CRC32C':
      return new Crc32c();
    case 'CRC64NVME':
      return new Crc64();
    case 'MD5':
    case 'SHA1':
    case 'SHA256':
      return createHash(algorithm);
    default:
      return algorithm satisfies never;
  }
}

class Crc32 implements Hasher {
  #value = 0;

  update(bytes: Uint8Array): void {
    this.#value = crc32(bytes, this.#value);
  }

  digest(): Buffer {
    return bigEndian(BigInt(this.#value), 4);
  }
}

/** Reflected polynomials: https://reveng.sourceforge.io/crc-catalogue/all.htm (CRC-32/ISO-HDLC, CRC-32/ISCSI, CRC-64/NVME). All start at and end with all ones. */
const POLYNOMIAL = { CRC32: 0xedb88320n, CRC32C: 0x82f63b78n, CRC64NVME: 0x9a6c9329ac4bc9b5n } as const;

/** Eight tables, so that eight bytes are taken at once: table k is the effect of a byte that k further bytes follow. */
function createTables(polynomial: bigint): readonly (readonly bigint[])[] {
  const first = Array.from({ length: 256 }, (_, byte) => {
    let crc = BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1n) === 1n ? (crc >> 1n) ^ polynomial : crc >> 1n;
    return crc;
  });
  const tables = [first];
  for (let index = 1; index < 8; index++) {
    const before = tables[index - 1] ?? first;
    tables.push(before.map((crc) => (crc >> 8n) ^ (first[Number(crc & 0xffn)] ?? 0n)));
  }
  return tables;
}

function flatten(tables: readonly (readonly bigint[])[], shift: bigint): Int32Array {
  return Int32Array.from(tables.flat(), (crc) => Number(BigInt.asIntN(32, crc >> shift)));
}

const lazy = <T>(make: () => T): (() => T) => {
  let made: T | undefined;
  return () => (made ??= make());
};
const crc32cTables = lazy(() => flatten(createTables(POLYNOMIAL.CRC32C), 0n));
const crc64Tables = lazy(() => {
  const tables = createTables(POLYNOMIAL.CRC64NVME);
  return { low: flatten(tables, 0n), high: flatten(tables, 32n) };
});

class Crc32c implements Hasher {
  readonly #table = crc32cTables();
  #value = -1;

  update(bytes: Uint8Array): void {
    const entries = this.#table;
    const entry = (table: number, byte: number): number => entries[(table << 8) | (byte & 0xff)] ?? 0;
    let crc = this.#value;
    let index = 0;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (const end = bytes.length - 7; index < end; index += 8) {
      const a = crc ^ view.getInt32(index, true);
      const b = view.getInt32(index + 4, true);
      crc =
        entry(7, a) ^ entry(6, a >>> 8) ^ entry(5, a >>> 16) ^ entry(4, a >>> 24) ^
        entry(3, b) ^ entry(2, b >>> 8) ^ entry(1, b >>> 16) ^ entry(0, b >>> 24); // prettier-ignore
    }
    for (; index < bytes.length; index++) crc = entry(0, crc ^ view.getUint8(index)) ^ (crc >>> 8);
    this.#value = crc;
  }

  digest(): Buffer {
    return bigEndian(BigInt(~this.#value >>> 0), 4);
  }
}

/** In two halves of 32 bits: BigInt would be a hundred times slower. */
class Crc64 implements Hasher {
  readonly #tables = crc64Tables();
  #low = -1;
  #high = -1;

  update(bytes: Uint8Array): void {
    const { low: tl, high: th } = this.#tables;
    let low = this.#low;
    let high = this.#high;
    let i = 0;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (const end = bytes.length - 7; i < end; i += 8) {
      const a = low ^ view.getInt32(i, true);
      const b = high ^ view.getInt32(i + 4, true);
      low = 0;
      high = 0;
      for (let k = 0; k < 4; k++) {
        const fromLow = ((7 - k) << 8) | ((a >>> (8 * k)) & 0xff);
        const fromHigh = ((3 - k) << 8) | ((b >>> (8 * k)) & 0xff);
        low ^= (tl[fromLow] ?? 0) ^ (tl[fromHigh] ?? 0);
        high ^= (th[fromLow] ?? 0) ^ (th[fromHigh] ?? 0);
      }
    }
    for (; i < bytes.length; i++) {
      const index = (low ^ view.getUint8(i)) & 0xff;
      low = ((low >>> 8) | (high << 24)) ^ (tl[index] ?? 0);
      high = (high >>> 8) ^ (th[index] ?? 0);
    }
    this.#low = low;
    this.#high = high;
  }

  digest(): Buffer {
    return bigEndian((BigInt(~this.#high >>> 0) << 32n) | BigInt(~this.#low >>> 0), 8);
  }
}

function bigEndian(value: bigint, bytes: 4 | 8): Buffer {
  return Buffer.from(value.toString(16).padStart(2 * bytes, '0'), 'hex');
}

/** Which types a multipart upload may have: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html */
export function supportsType(algorithm: ChecksumAlgorithm, type: ChecksumType): boolean {
  return type === 'COMPOSITE' ? algorithm !== 'CRC64NVME' : algorithm in POLYNOMIAL;
}

export interface PartChecksum {
  readonly bytes: number;
  /** Base64. */
  readonly checksum: string;
}

/** The checksum of a multipart object from those of its parts, as S3 writes it: a composite one ends in `-<parts>`. */
export function checksumOfParts(
  algorithm: ChecksumAlgorithm,
  type: ChecksumType,
  parts: readonly PartChecksum[],
): string {
  if (type === 'FULL_OBJECT') return combineCrcs(algorithm, parts);
  const hasher = createHasher(algorithm);
  for (const part of parts) hasher.update(Buffer.from(part.checksum, 'base64'));
  return `${hasher.digest().toString('base64')}-${parts.length}`;
}

/**
 * The CRC of a concatenation: the CRC of what came before, times x^(8·length of the part), plus the CRC of the part, over GF(2) modulo the
 * polynomial. https://github.com/madler/zlib/blob/v1.3.1/crc32.c (multmodp, x2nmodp) explains it.
 */
function combineCrcs(algorithm: ChecksumAlgorithm, parts: readonly PartChecksum[]): string {
  if (algorithm === 'SHA1' || algorithm === 'SHA256') throw new TypeError(`${algorithm} values cannot be combined`);
  const polynomial = POLYNOMIAL[algorithm];
  const width = DIGEST_BYTES[algorithm] === 4 ? 4 : 8;
  const one = 1n << BigInt(8 * width - 1); // x^0: the bits are reflected
  const multiply = (a: bigint, b: bigint): bigint => {
    let product = 0n;
    for (let bit = one, factor = b; bit > 0n; bit >>= 1n) {
      if ((a & bit) !== 0n) product ^= factor;
      factor = (factor & 1n) === 1n ? (factor >> 1n) ^ polynomial : factor >> 1n;
    }
    return product;
  };
  const shifts = new Map<number, bigint>(); // nearly all parts are of one size
  const shiftBy = (bytes: number): bigint => {
    let power = one;
    let square = one >> 8n;
    for (let rest = BigInt(bytes); rest > 0n; rest >>= 1n) {
      if ((rest & 1n) === 1n) power = multiply(square, power);
      square = multiply(square, square);
    }
    shifts.set(bytes, power);
    return power;
  };
  let crc = 0n;
  for (const part of parts) {
    const own = BigInt(`0x${Buffer.from(part.checksum, 'base64').toString('hex')}`);
    crc = multiply(shifts.get(part.bytes) ?? shiftBy(part.bytes), crc) ^ own;
  }
  return bigEndian(crc, width).toString('base64');
}
