import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { extract, pack, type Header } from 'tar-stream';
import { describe, expect, test } from 'vitest';
import {
  BLOCK_BYTES,
  encodeHeader,
  END_BYTES,
  linkTarget,
  paddingOf,
  safeName,
  scanTar,
  type TarEntry,
} from '../../../worker/archive/tar.ts';

const GIB = 1024 ** 3;
const TB = 10 ** 12;

/** File names as archives may have them: up to 250 bytes, with folders, also not ASCII. */
const names = fc
  .array(fc.string({ minLength: 1, maxLength: 40, unit: fc.constantFrom(...Array.from('abcXYZ019._-: =~ü名😀')) }), {
    minLength: 1,
    maxLength: 12,
  })
  .map((components) => components.join('/'))
  .filter((name) => Buffer.byteLength(name) <= 250 && !name.split('/').some((part) => part === '.' || part === '..'));
const sizes = fc.oneof(
  fc.integer({ min: 0, max: 2000 }),
  fc.constantFrom(8 * GIB - 1, 8 * GIB, 8 * GIB + 1, 50 * TB, 60 * TB),
  fc.integer({ min: 0, max: 60 * TB }),
);

describe('headers that this program writes', () => {
  test('are read back with the same name and size, wherever they are in the tar', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ name: names, size: sizes }), { minLength: 1, maxLength: 5 }),
        async (files) => {
          const { readAt, length, offsets } = virtualTar(files);
          const found = await Array.fromAsync(scanTar(readAt, length));
          expect(found.map(({ name, size, kind }) => ({ name, size, kind }))).toEqual(
            files.map(({ name, size }) => ({ name, size, kind: 'file' })),
          );
          expect(found.map((entry) => entry.headerOffset)).toEqual(offsets);
        },
      ),
    );
  });

  test('are read by tar-stream with the same name and size', async () => {
    await fc.assert(
      fc.asyncProperty(names, sizes, async (name, size) => {
        const header = await firstEntry(encodeHeader(name, size));
        expect(header).toMatchObject({ name, size, type: 'file', mode: 0o644, uid: 0, gid: 0, uname: '', gname: '' });
        expect(header.mtime?.getTime()).toBe(0);
      }),
    );
  });

  test('are one block up to 100 bytes of name and below 8 GiB, and have a pax header beyond', () => {
    expect(encodeHeader('a'.repeat(100), 8 * GIB - 1)).toHaveLength(BLOCK_BYTES);
    expect(encodeHeader('a'.repeat(101), 1)).toHaveLength(3 * BLOCK_BYTES);
    expect(encodeHeader('a', 8 * GIB)).toHaveLength(3 * BLOCK_BYTES);
    expect(encodeHeader(`blobs/sha256/${'0'.repeat(64)}`, 1)).toHaveLength(BLOCK_BYTES);
    expect(encodeHeader(`blobs/sha512/${'0'.repeat(128)}`, 1)).toHaveLength(3 * BLOCK_BYTES);
  });

  test('never change', () => {
    const hash = createHash('sha256');
    hash.update(encodeHeader('index.json', 467));
    hash.update(encodeHeader(`blobs/sha512/${'a'.repeat(128)}`, 9 * GIB));
    expect(hash.digest('hex')).toBe('b171008926c09d489218acf04acb4d693f45ad5b138fef0a9863c956d526dfe1');
  });

  test.each([
    [0, 0],
    [1, 511],
    [511, 1],
    [512, 0],
    [513, 511],
    [60 * TB + 1, 511],
  ])('a content of %i bytes is followed by %i zeros', (size, zeros) => {
    expect(paddingOf(size)).toBe(zeros);
  });
});

describe('tars of other tools', () => {
  test('written by tar-stream are read as they are', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ name: names, size: fc.integer({ min: 0, max: 3000 }) }), { maxLength: 6 }),
        async (files) => {
          const tar = await packed(
            files.map(({ name, size }) => ({ header: { name }, content: Buffer.alloc(size, name) })),
          );
          const found = await scan(tar);
          expect(found.map(({ name, size }) => ({ name, size }))).toEqual(files);
          for (const { name, offset, size } of found) {
            expect(tar.subarray(offset, offset + size)).toEqual(Buffer.alloc(size, name));
          }
        },
      ),
    );
  });

  test('may have folders, a leading ./, links and the old format without a magic number', async () => {
    const old = Buffer.from(encodeHeader('old', 0));
    old.fill(0, 257, 265);
    reseal(old);
    const tar = await packed([
      { header: { name: './', type: 'directory' } },
      { header: { name: './blobs/', type: 'directory' } },
      { header: { name: './blobs/x' }, content: Buffer.from('x') },
      { header: { name: 'a/layer.tar', type: 'symlink', linkname: '../b/layer.tar' } },
      { header: { name: 'hard', type: 'link', linkname: './blobs/x' } },
    ]);
    const found = await scan(Buffer.concat([old, tar]));
    expect(found.map(({ name, kind }) => `${kind} ${name}`)).toEqual([
      'file old',
      'directory ',
      'directory blobs',
      'file blobs/x',
      'symlink a/layer.tar',
      'link hard',
    ]);
    expect(found.slice(4).map(linkTarget)).toEqual(['b/layer.tar', 'blobs/x']);
  });

  test('may have sizes in base 256, GNU long names and a global comment', async () => {
    const header = Buffer.from(encodeHeader('large', 0));
    header.fill(0, 124, 136)[124] = 0x80;
    header.writeUIntBE(9 * GIB, 130, 6);
    const long = `folder/${'n'.repeat(200)}`;
    const longName = Buffer.from(encodeHeader('././@LongLink', long.length + 1));
    longName.write('L', 156);
    const comment = Buffer.from(encodeHeader('pax_global_header', 19));
    comment.write('g', 156);
    const tar = Buffer.concat([
      reseal(comment),
      padded('19 comment=abcdefg\n'),
      reseal(longName),
      padded(`${long}\0`),
      Buffer.from(encodeHeader('short', 0)),
      reseal(header),
    ]);
    const found = await scan(tar, tar.byteLength + 9 * GIB);
    expect(found.map(({ name, size }) => ({ name, size }))).toEqual([
      { name: long, size: 0 },
      { name: 'large', size: 9 * GIB },
    ]);
  });

  test('end at the first block of zeros, or where the bytes end', async () => {
    const file = Buffer.from(encodeHeader('a', 0));
    expect(await scan(Buffer.concat([file, Buffer.alloc(BLOCK_BYTES), file]))).toHaveLength(1);
    expect(await scan(file)).toHaveLength(1);
    expect(await scan(Buffer.alloc(0))).toEqual([]);
  });

  test('are never read where contents are', async () => {
    const { readAt, length } = virtualTar([
      { name: 'a', size: 5 * GIB },
      { name: 'b', size: 60 * TB },
    ]);
    let bytes = 0;
    const counting = async (offset: number, count: number): Promise<Uint8Array> => {
      bytes += count;
      return readAt(offset, count);
    };
    expect(await Array.fromAsync(scanTar(counting, length))).toHaveLength(2);
    expect(bytes).toBeLessThan(10 * BLOCK_BYTES);
  });
});

describe('tars that could mislead', () => {
  const named = (name: string, type = '0'): Buffer => {
    const header = Buffer.from(encodeHeader('x', 0));
    header.fill(0, 0, 100).write(name, 0);
    header.write(type, 156);
    return reseal(header);
  };
  const linked = (name: string, target: string, type: '1' | '2'): Buffer => {
    const header = named(name, type);
    header.write(target, 157);
    return reseal(header);
  };
  const pax = (records: string, next = Buffer.from(encodeHeader('x', 5)), type = 'x'): Buffer => {
    const header = Buffer.from(encodeHeader('PaxHeader', Buffer.byteLength(records)));
    header.write(type, 156);
    return Buffer.concat([reseal(header), padded(records), next, Buffer.alloc(4 * BLOCK_BYTES)]);
  };
  const wrongSum = Buffer.from(encodeHeader('x', 0));
  wrongSum[0] = 0x79;
  const nonsense = Buffer.from(encodeHeader('x', 0));
  nonsense.write('0000000000q', 124);

  test.each<[string, Buffer, string, RegExp]>([
    ['an absolute name', named('/etc/passwd'), 'INVALID', /"\/etc\/passwd" leads outside/],
    ['a name that leads upwards', named('blobs/../../x'), 'INVALID', /leads outside/],
    ['an absolute name in a pax header', pax('14 path=/root\n'), 'INVALID', /"\/root" leads outside/],
    ['a symlink to an absolute path', linked('a/l', '/etc/passwd', '2'), 'INVALID', /link "a\/l" to "\/etc\/passwd"/],
    ['a symlink that leads upwards', linked('a/l', '../../x', '2'), 'INVALID', /leads outside/],
    ['a hard link that leads upwards', linked('a/l', '../x', '1'), 'INVALID', /leads outside/],
    ['a device', named('dev/null', '3'), 'INVALID', /not a file, directory or link but of type "3"/],
    ['a sparse file of GNU tar', named('sparse', 'S'), 'INVALID', /type "S"/],
    ['a sparse file in pax', pax('22 GNU.sparse.major=1\n'), 'INVALID', /sparse file/],
    [
      'a wrong checksum',
      Buffer.concat([Buffer.from(encodeHeader('a', 0)), wrongSum]),
      'INVALID',
      /no tar header at byte 512/,
    ],
    ['something that is not a tar', Buffer.from('<html>'.repeat(200)), 'INVALID', /it is not a tar/],
    ['a size that is not a number', reseal(nonsense), 'INVALID', /no size that can be read \(at byte 0\)/],
    ['a pax record that is too long', pax('99 path=x\n'), 'INVALID', /wrong lengths/],
    ['a pax record that is too short', pax('6 path=x\n'), 'INVALID', /wrong lengths/],
    ['a pax record without a length', pax('path=x\n'), 'INVALID', /wrong lengths/],
    ['a pax record of length zero', pax('0 path=x\n'), 'INVALID', /wrong lengths/],
    ['a pax size that is not a number', pax('12 size=0x5\n'), 'INVALID', /the size "0x5"/],
    ['a negative pax size', pax('11 size=-5\n'), 'INVALID', /the size "-5"/],
    ['two sizes', pax('13 size=1024\n'), 'INVALID', /states two sizes for "x": 1024 and 5/],
    ['a global header with a size', pax('10 size=5\n', undefined, 'g'), 'INVALID', /global pax header/],
    ['a global header with a name', pax('10 path=y\n', undefined, 'g'), 'INVALID', /global pax header/],
    [
      'a huge pax header',
      Buffer.concat([hugePax(), Buffer.alloc(200_000)]),
      'INVALID',
      /extended header of 100000 bytes/,
    ],
    ['a folder with content', Buffer.concat([reseal(folderWithContent())]), 'INVALID', /a directory with content/],
    [
      'an end in a header',
      Buffer.concat([encodeHeader('x', 0), encodeHeader('y', 0)]).subarray(0, 700),
      'CORRUPT',
      /cut off/,
    ],
    [
      'an end in a content',
      Buffer.from(encodeHeader('layer', 1)),
      'CORRUPT',
      /"layer" goes to byte 513, but there are only 512/,
    ],
    ['an end in a pax header', pax('10 size=5\n').subarray(0, 515), 'CORRUPT', /cut off/],
    ['an end after a pax header', pax('10 path=y\n').subarray(0, 1024), 'CORRUPT', /after an extended header/],
  ])('%s', async (_, tar, code, message) => {
    await expect(scan(tar)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test('names are normalized, or refused', () => {
    expect(safeName('./a//b/./c')).toBe('a/b/c');
    expect(safeName('')).toBe('');
    expect(safeName('a..b/...')).toBe('a..b/...');
    for (const name of ['/a', '..', 'a/..', 'a/../b', 'a\0b']) expect(() => safeName(name)).toThrow(/leads outside/);
  });

  test('any bytes result in entries or in one sentence, and are never read beyond the end', async () => {
    const blocks = fc.array(
      fc.oneof(
        fc.uint8Array({ minLength: 512, maxLength: 512 }),
        fc.constantFrom(
          named('a'),
          named('x', 'x'),
          named('long', 'L'),
          pax('9 path=y\n'),
          linked('l', 'a', '2'),
          Buffer.alloc(512),
        ),
        fc.tuple(fc.nat(511), fc.nat(255)).map(([offset, byte]) => {
          const header = Buffer.from(encodeHeader('blobs/x', 700));
          header[offset] = byte;
          return reseal(header);
        }),
      ),
      { maxLength: 8 },
    );
    await fc.assert(
      fc.asyncProperty(blocks, fc.nat(600), async (made, cut) => {
        const tar = Buffer.concat(made);
        try {
          for (const entry of await scan(tar.subarray(0, Math.max(0, tar.byteLength - cut)))) {
            expect(entry.offset + entry.size).toBeLessThanOrEqual(tar.byteLength);
          }
        } catch (error) {
          expect(error).toMatchObject({ code: expect.stringMatching(/^(INVALID|CORRUPT)$/) });
        }
      }),
    );
  });

  function hugePax(): Buffer {
    const header = Buffer.from(encodeHeader('PaxHeader', 100_000));
    header.write('x', 156);
    return reseal(header);
  }

  function folderWithContent(): Buffer {
    const header = Buffer.from(encodeHeader('x', 5));
    header.write('x/', 0);
    return header;
  }
});

interface File {
  readonly name: string;
  readonly size: number;
}

/** A tar of any size that has only headers. */
function virtualTar(files: readonly File[]): {
  readAt: (offset: number, length: number) => Promise<Uint8Array>;
  length: number;
  offsets: number[];
} {
  const pieces: { readonly offset: number; readonly bytes: Uint8Array }[] = [];
  let length = 0;
  for (const { name, size } of files) {
    const bytes = encodeHeader(name, size);
    pieces.push({ offset: length, bytes });
    length += bytes.byteLength + size + paddingOf(size);
  }
  const offsets = pieces.map((piece) => piece.offset);
  pieces.push({ offset: length, bytes: new Uint8Array(END_BYTES) });
  const readAt = async (offset: number, count: number): Promise<Uint8Array> => {
    const piece = pieces.findLast((candidate) => candidate.offset <= offset);
    const bytes = piece?.bytes.subarray(offset - piece.offset, offset - piece.offset + count);
    if (bytes?.byteLength !== count) throw new Error(`read ${count} bytes at ${offset}, where no header is`);
    return bytes;
  };
  return { readAt, length: length + END_BYTES, offsets };
}

async function scan(tar: Buffer, size = tar.byteLength): Promise<readonly TarEntry[]> {
  const readAt = async (offset: number, length: number): Promise<Uint8Array> => {
    const bytes = tar.subarray(offset, offset + length);
    if (bytes.byteLength !== length) throw new Error(`read beyond the end: ${length} bytes at ${offset}`);
    return bytes;
  };
  return Array.fromAsync(scanTar(readAt, size));
}

async function firstEntry(bytes: Uint8Array): Promise<Header> {
  const tar = extract();
  const { promise, resolve, reject } = Promise.withResolvers<Header>();
  tar.on('entry', resolve);
  tar.on('error', reject);
  tar.write(bytes);
  const header = await promise;
  tar.destroy();
  return header;
}

interface PackedFile {
  readonly header: Partial<Header> & Pick<Header, 'name'>;
  readonly content?: Buffer;
}

async function packed(files: readonly PackedFile[]): Promise<Buffer> {
  const tar = pack();
  for (const { header, content } of files) tar.entry({ ...header }, content ?? '');
  tar.finalize();
  return Buffer.concat((await Array.fromAsync(tar)) as Uint8Array[]);
}

function padded(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([bytes, Buffer.alloc(paddingOf(bytes.byteLength))]);
}

/** Corrects the checksum. */
function reseal(header: Buffer): Buffer {
  header.fill(' ', 148, 156);
  const sum = header.reduce((all, byte) => all + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}
