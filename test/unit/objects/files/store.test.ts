import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openFiles } from '../../../../worker/objects/files/store.ts';
import type { ObjectStore, Upload } from '../../../../worker/objects/objects.ts';
import { seededBytes } from '../../../support/images.ts';
import { objectStoreSuite } from '../../../contracts/objects.ts';

objectStoreSuite('a folder', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'transship-files-'));
  const root = join(folder, 'not', 'there yet');
  return {
    store: openFiles(root),
    reopen: () => openFiles(root),
    remove: async (key) => rm(join(root, key)),
    partSize: 1000,
    keepsMetadata: false,
    [Symbol.asyncDispose]: async () => rm(folder, { recursive: true }),
  };
});

describe('a folder', () => {
  const content = seededBytes('files', 4500);
  const x = Buffer.from('x');
  let outer: string;
  let root: string;
  let store: ObjectStore;

  beforeEach(async () => {
    outer = await mkdtemp(join(tmpdir(), 'transship-files-'));
    root = join(outer, 'root');
    await mkdir(root);
    store = openFiles(root);
  });
  afterEach(async () => rm(outer, { recursive: true }));

  test('lists every file in order, also many and in several folders', async () => {
    const keys = ['a', 'b/c', 'd'].flatMap((folder) => Array.from({ length: 50 }, (_, i) => `${folder}/${100 + i}`));
    for (const key of keys) {
      await mkdir(join(root, key, '..'), { recursive: true });
      await writeFile(join(root, key), key);
    }
    expect((await Array.fromAsync(store.list(''))).map(({ key }) => key)).toEqual(keys);
    const first = [];
    for await (const { key } of store.list('b/')) if (first.push(key) === 40) break;
    expect(first).toEqual(keys.slice(50, 90));
  });

  test('lists what is left when files are deleted while it lists', async () => {
    for (let i = 100; i < 200; i++) await writeFile(join(root, String(i)), 'x');
    const listed: string[] = [];
    for await (const { key } of store.list('')) {
      listed.push(key);
      if (key === '100') for (let i = 150; i < 200; i++) await rm(join(root, String(i)));
    }
    expect(listed).toEqual(Array.from({ length: 50 }, (_, i) => String(100 + i)));
  });

  const begin = async (key = 'a.tar', of = store): Promise<Upload> =>
    of.upload(key, content.byteLength, { fingerprint: 'f', partSize: 1000 });
  const sendMissing = async (upload: Upload): Promise<number[]> => {
    const missing = [1, 2, 3, 4, 5].filter((n) => !upload.done.has(n));
    for (const n of missing) await upload.part(n, content.subarray((n - 1) * 1000, n * 1000));
    return missing;
  };
  describe('keys', () => {
    test.each(['', '/a', 'a/', 'a//b', '.', '..', './a', 'a/../b', '../a', 'a/..', 'a\0b', 'a\ud800b'])(
      '%j is INVALID for every call',
      async (key) => {
        const invalid = { code: 'INVALID' };
        await expect(store.stat(key)).rejects.toMatchObject(invalid);
        await expect(store.read(key)).rejects.toMatchObject(invalid);
        await expect(store.write(key, x)).rejects.toMatchObject(invalid);
        await expect(store.upload(key, 1, { fingerprint: 'f' })).rejects.toMatchObject(invalid);
        expect(await readdir(outer)).toEqual(['root']);
        expect(await readdir(root)).toEqual([]);
      },
    );

    test.each(['/', '../', 'a/../', 'a//'])('the prefix %j is INVALID', async (prefix) => {
      await expect(Array.fromAsync(store.list(prefix))).rejects.toMatchObject({ code: 'INVALID' });
    });

    test.runIf(process.platform === 'linux')(
      'a folder that the file system does not create fails the write',
      async () => {
        // the recursive mkdir of Node does not end here
        await expect(openFiles('/proc/none').write('a', x)).rejects.toMatchObject({ code: 'NOT_FOUND' });
      },
    );

    test('the names of unfinished files are reserved', async () => {
      await begin();
      for (const name of await readdir(root))
        await expect(store.write(name, x)).rejects.toMatchObject({ code: 'INVALID' });
      await store.write('.hidden.partial', x);
      expect((await store.stat('.hidden.partial')).size).toBe(1);
    });

    test('a name too long for a file is INVALID, the longest possible one is not', async () => {
      await expect(store.write('n'.repeat(256), x)).rejects.toMatchObject({ code: 'INVALID' });
      const key = `${'ü'.repeat(126)}.gz`;
      await store.write(key, x);
      const upload = await begin(key);
      await upload.part(2, content.subarray(1000, 2000));
      const again = await begin(key);
      expect([...again.done.keys()]).toEqual([2]);
      await sendMissing(again);
      await again.commit();
      expect(await readdir(root)).toEqual([key]);
    });

    test('uploads of two long names with the same beginning are distinct', async () => {
      const [one, two] = [`${'n'.repeat(250)}1`, `${'n'.repeat(250)}2`];
      await sendMissing(await begin(one));
      expect((await begin(two)).done.size).toBe(0);
    });
  });

  describe('folders, links and other things', () => {
    test('a folder is not an object', async () => {
      await store.write('a/b', x);
      await expect(store.stat('a')).rejects.toMatchObject({ code: 'NOT_FOUND' });
      await expect(store.read('a')).rejects.toMatchObject({ code: 'NOT_FOUND' });
      await expect(store.write('a', x)).rejects.toMatchObject({ code: 'CONFLICT' });
      await expect(store.write('a', x, { condition: { ifAbsent: true } })).rejects.toMatchObject({ code: 'CONFLICT' });
      const upload = await begin('a');
      await sendMissing(upload);
      await expect(upload.commit()).rejects.toMatchObject({ code: 'CONFLICT' });
      await upload.abort();
      expect(await readdir(root, { recursive: true })).toEqual(['a', 'a/b']);
    });

    test('a file is not a folder', async () => {
      await store.write('a', x);
      await expect(store.stat('a/b')).rejects.toMatchObject({ code: 'NOT_FOUND' });
      await expect(store.write('a/b', x)).rejects.toMatchObject({ code: 'CONFLICT' });
      await expect(begin('a/b')).rejects.toMatchObject({ code: 'CONFLICT' });
    });

    test('links out of the folder are refused when writing', async () => {
      await mkdir(join(outer, 'elsewhere'));
      await writeFile(join(outer, 'elsewhere', 'victim'), 'v');
      await symlink('../elsewhere', join(root, 'out'));
      await symlink('../elsewhere/none', join(root, 'dangling'));
      for (const key of ['out/new', 'out/deep/new', 'out/victim']) {
        await expect(store.write(key, x)).rejects.toMatchObject({ code: 'INVALID' });
        await expect(begin(key)).rejects.toMatchObject({ code: 'INVALID' });
      }
      await expect(store.write('dangling/new', x)).rejects.toMatchObject({ code: 'NOT_FOUND' });
      expect(await readdir(join(outer, 'elsewhere'))).toEqual(['victim']);
    });

    test('a link in place of the object is replaced, not written through', async () => {
      await writeFile(join(outer, 'victim'), 'v');
      await symlink('../victim', join(root, 'k'));
      await store.write('k', x);
      expect(await readFile(join(outer, 'victim'), 'utf8')).toBe('v');
      expect(await readFile(join(root, 'k'), 'utf8')).toBe('x');
    });

    test('links inside the folder work, and so does a folder that is a link itself', async () => {
      await mkdir(join(root, 'real'));
      await symlink('real', join(root, 'alias'));
      await store.write('alias/a', x);
      await symlink(root, join(outer, 'rootlink'));
      await openFiles(join(outer, 'rootlink')).write('real/b', x);
      expect((await Array.fromAsync(store.list(''))).map((info) => info.key)).toEqual(['real/a', 'real/b']);
    });

    test('a named pipe is not an object, and reading it does not wait for a writer', async () => {
      const tool = 'mkfifo';
      execFileSync(tool, [join(root, 'pipe')]);
      await expect(store.read('pipe')).rejects.toMatchObject({ code: 'NOT_FOUND' });
      expect(await Array.fromAsync(store.list(''))).toEqual([]);
    });

    test('writing over a named pipe is refused at once, and leaves nothing beside it', async () => {
      const tool = 'mkfifo';
      execFileSync(tool, [join(root, 'pipe')]);
      const refused = {
        code: 'CONFLICT',
        message: expect.stringContaining('it is not a file, but a pipe or a device'),
      };
      await expect(store.upload('pipe', 5, { fingerprint: 'f' })).rejects.toMatchObject(refused);
      await expect(store.write('pipe', Buffer.from('x'))).rejects.toMatchObject(refused);
      expect(await readdir(root)).toEqual(['pipe']);
    });

    test('a file that is truncated while it is read is UNAVAILABLE', async () => {
      await store.write('k', Buffer.alloc(3 * 1024 * 1024));
      const reading = (async () => {
        for await (const _ of await store.read('k')) await truncate(join(root, 'k'), 1_500_000);
      })();
      await expect(reading).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    });

    test.skipIf(process.getuid?.() === 0)('a folder that may not be written to is DENIED', async () => {
      await chmod(root, 0o500);
      await expect(store.write('k', x)).rejects.toMatchObject({ code: 'DENIED' });
      await chmod(root, 0o700);
    });
  });

  describe('other files beside the objects', () => {
    test('are removed when work ends, successfully or not', async () => {
      await store.write('k', x);
      await expect(store.write('k', x, { condition: { ifAbsent: true } })).rejects.toMatchObject({ code: 'CONFLICT' });
      await expect(store.write('k', x, { condition: { ifMatch: 'no' } })).rejects.toMatchObject({ code: 'CONFLICT' });
      const broken = (async function* () {
        yield x;
        throw new Error('broken');
      })();
      await expect(store.stream('k', broken)).rejects.toThrow('broken');
      const upload = await begin();
      await sendMissing(upload);
      await upload.commit();
      await (await begin('b')).abort();
      expect(await readdir(root)).toEqual(['a.tar', 'k']);
    });

    test('are skipped when a dead process left them', async () => {
      const names = new Set<string>();
      const body = (async function* () {
        for (const name of await readdir(root)) names.add(name);
        yield x;
      })();
      await store.stream('k', body);
      const [taken] = names;
      const [, pid, count] = /(\d+)-(\d+)\.temp$/u.exec(taken ?? '') ?? [];
      const next = join(root, `.k.${pid}-${Number(count) + 1}.temp`);
      await writeFile(next, 'left over');
      await store.write('k', Buffer.from('new'));
      expect(await readFile(join(root, 'k'), 'utf8')).toBe('new');
      expect(await readFile(next, 'utf8')).toBe('left over');
    });
  });
});
