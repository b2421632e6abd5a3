import { crc32, deflateRawSync } from 'node:zlib';

export interface ZipEntry {
  /** With `/` between folders. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

// https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT: 4.3.7, 4.3.12, 4.3.16
const LOCAL = 0x04_03_4b_50;
const CENTRAL = 0x02_01_4b_50;
const END = 0x06_05_4b_50;
const VERSION = 20;
/** Made by Unix, so that unzip applies the mode of a file. */
const MADE_BY = (3 << 8) | VERSION;
const UTF8 = 0x08_00;
const DEFLATED = 8;
/** 1980-01-01, the first date of the format: the same files make the same archive. */
const DATE = (1 << 5) | 1;
const READABLE_FILE = 0o100_644;

/** A zip archive of these files, in their order. Each is smaller than 4 GiB, and there are fewer than 65,536. */
export function zip(entries: readonly ZipEntry[]): Buffer {
  const files: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, bytes } of entries) {
    const path = Buffer.from(name);
    const packed = deflateRawSync(bytes);
    // the same bytes in both headers
    const about = Buffer.alloc(26);
    about.writeUInt16LE(VERSION, 0);
    about.writeUInt16LE(UTF8, 2);
    about.writeUInt16LE(DEFLATED, 4);
    about.writeUInt16LE(DATE, 8);
    about.writeUInt32LE(crc32(bytes), 10);
    about.writeUInt32LE(packed.byteLength, 14);
    about.writeUInt32LE(bytes.byteLength, 18);
    about.writeUInt16LE(path.byteLength, 22);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(READABLE_FILE * 0x1_00_00, 6);
    rest.writeUInt32LE(offset, 10);
    const file = [uint32(LOCAL), about, path, packed];
    for (const part of file) files.push(part);
    directory.push(uint32(CENTRAL), uint16(MADE_BY), about, rest, path);
    offset += file.reduce((sum, part) => sum + part.byteLength, 0);
  }
  const listed = Buffer.concat(directory);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(entries.length, 4);
  end.writeUInt16LE(entries.length, 6);
  end.writeUInt32LE(listed.byteLength, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...files, listed, uint32(END), end]);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
