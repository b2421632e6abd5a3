import { execFileSync } from 'node:child_process';
import {
  appendFile,
  chmod,
  link,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { openFiles } from '../../../../worker/objects/files/store.ts';
import type { ObjectStore, Upload } from '../../../../worker/objects/objects.ts';
import { crashing } from '../../../support/faulty-objects.ts';
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

  const begin = async (key = 'a.tar', of = store): Promise<Upload> =>
    of.upload(key, content.byteLength, { fingerprint: 'f', partSize: 1000 });
  const sendMissing = async (upload: Upload): Promise<number[]> => {
    const missing = [1, 2, 3, 4, 5].filter((n) => !upload.done.has(n));
    for (const n of missing) await upload.part(n, content.subarray((n - 1) * 1000, n * 1000));
    return missing;
  };
  const own = async (extension: string): Promise<string> => {
    const [name, ...others] = (await readdir(root)).filter((file) => file.endsWith(extension));
    if (name === undefined || others.length > 0) throw new Error(`not exactly one file ends in ${extension}`);
    return join(root, name);
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

    test('the names of unfinished files are taken', async () => {
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

    test('uploads of two long names that begin alike are two', async () => {
      const [one, two] = [`${'n'.repeat(250)}1`, `${'n'.repeat(250)}2`];
      await sendMissing(await begin(one));
      expect((await begin(two)).done.size).toBe(0);
    });
  });

  describe('folders, links and other things', () => {
    test('a folder is no object', async () => {
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

    test('a file is no folder', async () => {
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

    test('a named pipe is no object, and nobody waits for its other end', async () => {
      const tool = 'mkfifo';
      execFileSync(tool, [join(root, 'pipe')]);
      await expect(store.read('pipe')).rejects.toMatchObject({ code: 'NOT_FOUND' });
      expect(await Array.fromAsync(store.list(''))).toEqual([]);
    });

    test('a file that is cut while it is read is UNAVAILABLE', async () => {
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

  describe('what lies beside the objects', () => {
    test('one who waits for the lock of another process can be stopped, and leaves the lock and no file', async () => {
      const { etag } = await store.write('k', x);
      await writeFile(join(root, '.k.lock'), '');
      const stop = new AbortController();
      const writing = store.write('k', content, { condition: { ifMatch: etag }, signal: stop.signal });
      // written whole, and waiting to be put in its place
      await vi.waitUntil(async () => (await readdir(root)).some((name) => name.endsWith('.temp')));
      stop.abort();
      await expect(writing).rejects.toMatchObject({ code: 'ABORTED' });
      expect((await readdir(root)).sort()).toEqual(['.k.lock', 'k']);
    });

    test('nothing is left by what ended, well or not', async () => {
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

    test('a commit that met a conflict leaves the upload as it was', async () => {
      await store.write('a.tar', x);
      const o = { fingerprint: 'f', partSize: 1000, condition: { ifAbsent: true } } as const;
      const upload = await store.upload('a.tar', content.byteLength, o);
      await sendMissing(upload);
      await expect(upload.commit()).rejects.toMatchObject({ code: 'CONFLICT' });
      await rm(join(root, 'a.tar'));
      await upload.commit();
      expect(await readFile(join(root, 'a.tar'))).toEqual(content);
      expect(await readdir(root)).toEqual(['a.tar']);
    });

    test('a temporary name that a dead process left is passed over', async () => {
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

  describe('an upload that was interrupted', () => {
    test('a torn last line of the journal costs that part only', async () => {
      await sendMissing(await begin());
      const journal = await own('.parts');
      await truncate(journal, (await stat(journal)).size - 3);
      const again = await begin();
      expect(await sendMissing(again)).toEqual([5]);
      // what is appended after the torn line is read again
      expect((await begin()).done.size).toBe(5);
      await again.commit();
      expect(await readFile(join(root, 'a.tar'))).toEqual(content);
    });

    test('a part that is in the journal but not in the file is sent again', async () => {
      await sendMissing(await begin());
      const handle = await open(await own('.partial'), 'r+');
      await handle.write(Buffer.from([(content[2500] ?? 0) ^ 1]), 0, 1, 2500);
      await handle.close();
      const again = await begin();
      expect(await sendMissing(again)).toEqual([3]);
      await again.commit();
      expect(await readFile(join(root, 'a.tar'))).toEqual(content);
    });

    test.each(['', '{"format":"transship-uplo', 'rubbish\n1 5\n', '\0\0\0\0'])(
      'a journal that reads %j is begun anew',
      async (text) => {
        await sendMissing(await begin());
        await writeFile(await own('.parts'), text);
        const again = await begin();
        expect(await sendMissing(again)).toEqual([1, 2, 3, 4, 5]);
        expect((await begin()).done.size).toBe(5);
        await again.commit();
        expect(await readFile(join(root, 'a.tar'))).toEqual(content);
      },
    );

    test('lines for parts that do not exist are passed over', async () => {
      await begin();
      await appendFile(await own('.parts'), '6 0\n0 0\n99999999999999999999 1\n-1 5\n1 x\n');
      expect((await begin()).done.size).toBe(0);
    });

    test('a journal without its file, a file without its journal, and one of another length mend themselves', async () => {
      await sendMissing(await begin());
      await truncate(await own('.partial'), 2500);
      expect([...(await begin()).done.keys()]).toEqual([1, 2]);
      await unlink(await own('.partial'));
      await sendMissing(await begin());
      await unlink(await own('.parts'));
      const again = await begin();
      expect(again.done.size).toBe(0);
      await sendMissing(again);
      await again.commit();
      expect(await readdir(root)).toEqual(['a.tar']);
    });

    test('a crash between putting the file in place and clearing up is a success', async () => {
      for (const condition of [undefined, { ifAbsent: true }, { ifMatch: 'the one that was replaced' }] as const) {
        const o = { fingerprint: 'f', partSize: 1000, condition };
        await sendMissing(await store.upload('a.tar', content.byteLength, o));
        await link(await own('.partial'), join(root, 'a.tar'));
        const again = await store.upload('a.tar', content.byteLength, o);
        expect(again.done.size).toBe(5);
        expect(await again.commit()).toMatchObject({ size: content.byteLength });
        expect(await readdir(root)).toEqual(['a.tar']);
        await rm(join(root, 'a.tar'));
      }
    });
  });

  describe('two processes with the same upload', () => {
    test('one never publishes what another has begun anew', async () => {
      const slow = await begin();
      await sendMissing(slow);
      const fast = await begin('a.tar', openFiles(root));
      await fast.commit();
      await rm(join(root, 'a.tar'));
      await begin('a.tar', openFiles(root));
      await expect(slow.commit()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      await expect(slow.part(1, content.subarray(0, 1000))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      await expect(store.stat('a.tar')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    });

    test('one that was aborted by the other says so', async () => {
      const slow = await begin();
      await sendMissing(slow);
      await (await begin('a.tar', openFiles(root))).abort();
      await expect(slow.commit()).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        message: expect.stringContaining('start the upload again'),
      });
    });
  });

  test('killed at every write, begun again until it is done: the same bytes, no part sent twice but the one in flight', async () => {
    const backup = async (to: ObjectStore): Promise<void> => {
      const upload = await to.upload('a.tar', content.byteLength, {
        fingerprint: 'f',
        partSize: 1000,
        condition: { ifAbsent: true },
      });
      await sendMissing(upload);
      await upload.commit();
    };
    const whole = crashing(store, Number.POSITIVE_INFINITY);
    await backup(whole.store);
    expect(whole.writes()).toBe(14);
    for (let at = 1; at <= whole.writes(); at++) {
      await rm(join(root, 'a.tar'), { force: true });
      const first = crashing(openFiles(root), at);
      await expect(backup(first.store)).rejects.toMatchObject({ name: 'Crash' });
      await expect(first.store.stat('a.tar')).rejects.toMatchObject({ name: 'Crash' });
      const second = crashing(openFiles(root), Number.POSITIVE_INFINITY);
      // killed after commit: the caller finds the object and is done
      if ((await readdir(root)).includes('a.tar')) expect(at).toBe(14);
      else await backup(second.store);
      expect(await readFile(join(root, 'a.tar'))).toEqual(content);
      expect(await readdir(root)).toEqual(['a.tar']);
      expect(first.bytesSent() + second.bytesSent()).toBeLessThanOrEqual(content.byteLength);
    }
  });
});
