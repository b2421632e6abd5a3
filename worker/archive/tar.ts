import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';

/**
 * The tar format as far as archives of images need it: writing headers that are the same for the same name and size, and finding the entries of tars
 * of any tool, by reading their headers alone. A codec of our own because planning must know every header without a stream, and reading must skip
 * contents that are never fetched; tar-stream offers streams only, and the tests hold it against this one.
 * https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06
 */
export const BLOCK_BYTES = 512;
/** Two blocks of zeros end a tar. */
export const END_BYTES = 2 * BLOCK_BYTES;

/** The most that the eleven octal digits of a header hold: one byte less than 8 GiB. */
const MAX_OCTAL_SIZE = 0o77777777777;
const MAX_NAME_BYTES = 100;
/** Pax records and GNU long names of real tars are a few hundred bytes. */
const MAX_EXTENSION_BYTES = 64 * 1024;
/** Images have a few files a layer; this keeps a hostile tar from filling the memory. */
export const MAX_ENTRIES = 200_000;

/** Zeros after a content of `size` bytes, up to the next block. */
export function paddingOf(size: number): number {
  return (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES;
}

/**
 * The header of a regular file: one ustar block, with a pax header of two or more blocks in front when the name is over 100 bytes or not
 * ASCII, or the size is 8 GiB or more. Owner, group, time and names of users are always zero or empty, the mode always 0644.
 */
export function encodeHeader(name: string, size: number): Uint8Array {
  const longName = Buffer.byteLength(name) > MAX_NAME_BYTES || !/^[\x20-\x7e]*$/.test(name);
  const longSize = size > MAX_OCTAL_SIZE;
  // without pax the stand-ins are the real values
  const block = ustar('0', shortName(name), longSize ? 0 : size);
  if (!longName && !longSize) return block;
  const records = Buffer.from((longName ? record('path', name) : '') + (longSize ? record('size', String(size)) : ''));
  return Buffer.concat([
    ustar('x', 'PaxHeader', records.byteLength),
    records,
    Buffer.alloc(paddingOf(records.byteLength)),
    block,
  ]);
}

/** One file, directory or link of a tar. */
export interface TarEntry {
  /** Cleaned: relative, without `.` and empty components. Empty for the top itself. */
  readonly name: string;
  readonly kind: 'file' | 'directory' | 'symlink' | 'link';
  /** Where its first header block is. */
  readonly headerOffset: number;
  /** Where its content is. */
  readonly offset: number;
  /** Bytes of the content. */
  readonly size: number;
  /** What a link points at, as written. */
  readonly linkName: string;
}

/** Exactly the bytes `offset` to `offset + length`, which lie within the tar. */
export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>;

/**
 * The entries of a tar of `size` bytes in their order; contents are not read. What could mislead is refused, never guessed at: INVALID for bytes that
 * are not a tar, for names that are absolute or lead upwards, for special files (devices, sparse files), for pax headers that contradict the header
 * after them; CORRUPT for a tar that ends in the middle. Messages name the byte, not the tar. Returns whether the tar ends as it should, with zeros:
 * some tools leave them out, but so does a cut.
 */
export async function* scanTar(readAt: ReadAt, size: number): AsyncGenerator<TarEntry, boolean, undefined> {
  let offset = 0;
  let headerOffset = 0;
  let extension: Extension = {};
  for (let count = 0; offset < size;) {
    if (size - offset < BLOCK_BYTES) {
      throw offset === 0 ? noTar() : truncated(`its header at byte ${offset}`, offset + BLOCK_BYTES, size);
    }
    const header = decodeUstar(await readAt(offset, BLOCK_BYTES), offset);
    if (header === undefined) {
      checkNothingPending(extension, offset);
      return true;
    }
    if (++count > MAX_ENTRIES) throw invalid(offset, `has more than ${MAX_ENTRIES} entries`);
    offset += BLOCK_BYTES;
    if (header.type === 'x' || header.type === 'g' || header.type === 'L' || header.type === 'K') {
      if (header.size > MAX_EXTENSION_BYTES) throw invalid(offset, `has an extended header of ${header.size} bytes`);
      if (offset + header.size > size)
        throw truncated(`the extended header at byte ${offset}`, offset + header.size, size);
      const bytes = await readAt(offset, header.size);
      extension = Object.assign(extension, decodeExtension(header.type, bytes, offset));
      offset += header.size + paddingOf(header.size);
      continue;
    }
    const entry = toEntry(header, extension, headerOffset, offset);
    if (offset + entry.size > size) throw truncated(quote(entry.name), offset + entry.size, size);
    yield entry;
    offset += entry.size + paddingOf(entry.size);
    headerOffset = offset;
    extension = {};
  }
  checkNothingPending(extension, offset);
  return false;
}

/** `name` without `.` and empty components. INVALID when it is absolute, leads upwards or cannot be a path. */
export function safeName(name: string): string {
  const components = name.split('/').filter((component) => component !== '' && component !== '.');
  if (name.startsWith('/') || components.includes('..') || name.includes('\0')) {
    throw new Failure('INVALID', `${quote(name)} leads outside of the archive`);
  }
  return components.join('/');
}

/** What `link`, a symlink or hard link inside a tar, points at, as a clean name. INVALID when that is outside of the tar. */
export function linkTarget(link: TarEntry): string {
  if (link.kind === 'link') return safeName(link.linkName);
  const path = link.name.split('/').slice(0, -1);
  if (link.linkName.startsWith('/') || link.linkName.includes('\0')) throw leadsOut(link);
  for (const component of link.linkName.split('/')) {
    if (component === '..') {
      if (path.pop() === undefined) throw leadsOut(link);
    } else if (component !== '' && component !== '.') path.push(component);
  }
  return path.join('/');
}

function ustar(type: '0' | 'x', name: string, size: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  block.write(name, 0, 'latin1');
  // mode, owner, group; size, time
  block.write(`${octal(0o644, 7)}${octal(0, 7)}${octal(0, 7)}`, 100, 'latin1');
  block.write(`${octal(size, 11)}${octal(0, 11)}`, 124, 'latin1');
  block.write(type, 156, 'latin1');
  // magic and version; device numbers
  block.write('ustar\u000000', 257, 'latin1');
  block.write(`${octal(0, 7)}${octal(0, 7)}`, 329, 'latin1');
  block.write(`${octal(checksum(block), 6)} `, 148, 'latin1');
  return block;
}

function octal(value: number, digits: number): string {
  return `${value.toString(8).padStart(digits, '0')}\0`;
}

/** What a reader without pax sees. It must not end with a slash, which to old tars means a directory. */
function shortName(name: string): string {
  return name
    .replace(/[^\x20-\x7e]/g, '_')
    .slice(0, MAX_NAME_BYTES)
    .replace(/\/$/, '_');
}

/** A pax record counts its own length, digits included. */
function record(key: string, value: string): string {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  let length = rest + 1;
  while (String(length).length + rest !== length) length++;
  return `${length} ${key}=${value}\n`;
}

/** The sum of all bytes, those of the checksum itself taken as spaces. */
function checksum(block: Uint8Array): number {
  let sum = 8 * 0x20;
  for (let index = 0; index < 148; index++) sum += block[index] ?? 0;
  for (let index = 156; index < BLOCK_BYTES; index++) sum += block[index] ?? 0;
  return sum;
}

interface Ustar {
  readonly name: string;
  readonly type: string;
  readonly size: number;
  readonly linkName: string;
}

/** What extended headers say about the entry after them. */
interface Extension {
  readonly path?: string;
  readonly linkPath?: string;
  readonly size?: number;
}

/** Undefined for a block of zeros, which ends the tar. */
function decodeUstar(block: Uint8Array, offset: number): Ustar | undefined {
  const bytes = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
  if (bytes.every((byte) => byte === 0)) return undefined;
  if (decodeNumber(bytes.subarray(148, 156)) !== checksum(bytes)) {
    throw offset === 0 ? noTar() : new Failure('INVALID', `there is no tar header at byte ${offset}`);
  }
  const size = decodeNumber(bytes.subarray(124, 136));
  if (size === undefined) throw invalid(offset, 'has no size that can be read');
  const posix = bytes.toString('latin1', 257, 263) === 'ustar\0';
  const prefix = posix ? text(bytes.subarray(345, 500)) : '';
  const name = text(bytes.subarray(0, 100));
  const type = bytes[156] === 0 ? '0' : String.fromCharCode(bytes[156] ?? 0);
  return {
    name: prefix === '' ? name : `${prefix}/${name}`,
    type,
    size,
    linkName: text(bytes.subarray(157, 257)),
  };
}

/** Octal digits between spaces and NULs, or GNU's base 256. Undefined when it is neither, negative, or too large to count with. */
function decodeNumber(field: Buffer): number | undefined {
  const first = field[0] ?? 0;
  if ((first & 0x80) !== 0) {
    let value = first & 0x7f;
    for (const byte of field.subarray(1)) value = value * 256 + byte;
    return first === 0xff || !Number.isSafeInteger(value) ? undefined : value;
  }
  const digits = /^[ \0]*([0-7]*)[ \0]*$/.exec(field.toString('latin1'))?.[1];
  return digits === undefined ? undefined : parseInt(digits === '' ? '0' : digits, 8);
}

function decodeExtension(type: 'x' | 'g' | 'L' | 'K', bytes: Uint8Array, offset: number): Extension {
  if (type === 'L') return { path: text(Buffer.from(bytes)) };
  if (type === 'K') return { linkPath: text(Buffer.from(bytes)) };
  const records = decodePax(bytes, offset);
  if ([...records.keys()].some((key) => key.startsWith('GNU.sparse.'))) throw invalid(offset, 'has a sparse file');
  const path = records.get('path');
  const linkPath = records.get('linkpath');
  const size = records.get('size');
  if (type === 'g') {
    if (path ?? linkPath ?? size) throw invalid(offset, 'has a global pax header that renames or resizes every file');
    return {};
  }
  if (size !== undefined && (!/^[0-9]{1,16}$/.test(size) || !Number.isSafeInteger(Number(size)))) {
    throw invalid(offset, `has a pax header with the size ${quote(size)}`);
  }
  return {
    ...(path === undefined ? {} : { path }),
    ...(linkPath === undefined ? {} : { linkPath }),
    ...(size === undefined ? {} : { size: Number(size) }),
  };
}

/** `length key=value\n`, the length counting all of it. */
function decodePax(bytes: Uint8Array, offset: number): ReadonlyMap<string, string> {
  const records = new Map<string, string>();
  const all = Buffer.from(bytes);
  for (let from = 0; from < all.byteLength;) {
    const space = all.indexOf(0x20, from);
    const digits = space === -1 ? '' : all.toString('latin1', from, Math.min(space, from + 8));
    const to = from + Number(digits);
    const equals = all.indexOf(0x3d, space);
    if (!/^[1-9][0-9]{0,6}$/.test(digits) || equals === -1 || equals >= to || all[to - 1] !== 0x0a) {
      throw invalid(offset, 'has a pax header whose records have wrong lengths');
    }
    records.set(all.toString('utf8', space + 1, equals), all.toString('utf8', equals + 1, to - 1));
    from = to;
  }
  return records;
}

function toEntry(header: Ustar, extension: Extension, headerOffset: number, offset: number): TarEntry {
  const written = extension.path ?? header.name;
  const kind = kindOf(header.type, written, headerOffset);
  // a size that the header could hold must be the same there: readers differ in which of the two they believe
  if (extension.size !== undefined && extension.size <= MAX_OCTAL_SIZE && extension.size !== header.size) {
    throw invalid(headerOffset, `states two sizes for ${quote(written)}: ${extension.size} and ${header.size}`);
  }
  const size = kind === 'file' ? (extension.size ?? header.size) : 0;
  if (kind === 'directory' && header.type !== '5' && header.size > 0) {
    throw invalid(headerOffset, `has ${quote(written)}, a directory with content`);
  }
  const linkName = extension.linkPath ?? header.linkName;
  const entry: TarEntry = { name: safeName(written), kind, headerOffset, offset, size, linkName };
  if (kind === 'symlink' || kind === 'link') linkTarget(entry);
  return entry;
}

function kindOf(type: string, name: string, offset: number): TarEntry['kind'] {
  switch (type) {
    case '0':
    case '7': // contiguous: a file
      return name.endsWith('/') ? 'directory' : 'file';
    case '1':
      return 'link';
    case '2':
      return 'symlink';
    case '5':
      return 'directory';
    default:
      throw invalid(offset, `has ${quote(name)}, which is not a file, directory or link but of type ${quote(type)}`);
  }
}

function checkNothingPending(extension: Extension, offset: number): void {
  if (Object.keys(extension).length > 0)
    throw new Failure('CORRUPT', `ends at byte ${offset}, after an extended header`);
}

function text(field: Buffer): string {
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end === -1 ? field.byteLength : end);
}

function leadsOut(link: TarEntry): Failure {
  return new Failure('INVALID', `the link ${quote(link.name)} to ${quote(link.linkName)} leads outside of the archive`);
}

function noTar(): Failure {
  return new Failure('INVALID', 'it is not a tar, and so not an archive of an image');
}

function invalid(offset: number, what: string): Failure {
  return new Failure('INVALID', `the tar ${what} (at byte ${offset})`);
}

function truncated(what: string, end: number, size: number): Failure {
  return new Failure('CORRUPT', `the tar is cut off: ${what} goes to byte ${end}, but there are only ${size}`);
}
