import {
  appendFile,
  link,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { promises, utimesSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { openFiles } from '../../../../worker/objects/files/store.ts';
import type { ObjectStore, Upload } from '../../../../worker/objects/objects.ts';
import { systemClock } from '../../../../worker/util/clock.ts';
import { crashing } from '../../../support/faulty-objects.ts';
import { seededBytes } from '../../../support/images.ts';

describe('an upload to a folder', () => {
  const content = seededBytes('files', 4500);
  let root: string;
  let store: ObjectStore;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'transship-files-'));
    store = openFiles(root);
  });
  afterEach(async () => rm(root, { recursive: true }));

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

  test('a commit that met a conflict leaves the upload unchanged', async () => {
    await store.write('a.tar', Buffer.from('x'));
    const o = { fingerprint: 'f', partSize: 1000, condition: { ifAbsent: true } } as const;
    const upload = await store.upload('a.tar', content.byteLength, o);
    await sendMissing(upload);
    await expect(upload.commit()).rejects.toMatchObject({ code: 'CONFLICT' });
    await rm(join(root, 'a.tar'));
    await upload.commit();
    expect(await readFile(join(root, 'a.tar'))).toEqual(content);
    expect(await readdir(root)).toEqual(['a.tar']);
  });

  describe('an interrupted upload', () => {
    test('a torn last line of the journal costs that part only', async () => {
      await sendMissing(await begin());
      const journal = await own('.parts');
      await truncate(journal, (await stat(journal)).size - 3);
      const again = await begin();
      expect(await sendMissing(again)).toEqual([5]);
      // the line appended after the torn one is read again
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

    test('ignores lines for parts that do not exist', async () => {
      await begin();
      await appendFile(await own('.parts'), '6 0\n0 0\n99999999999999999999 1\n-1 5\n1 x\n');
      expect((await begin()).done.size).toBe(0);
    });

    test('recovers from a journal without its file, a file without its journal, and one of another length', async () => {
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

    test('succeeds after a crash between moving the file into place and cleaning up', async () => {
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
    test('an upload is begun anew where the other process completes it while it is opened', async () => {
      for (let times = 0; times < 30; times++) {
        const first = await begin();
        await sendMissing(first);
        const others = Array.from({ length: 8 }, async (_, i) => {
          await setTimeout(i / 4);
          return begin();
        });
        await first.commit();
        for (const upload of await Promise.all(others)) await upload.abort();
      }
    });

    test('one never publishes what the other has begun anew', async () => {
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

    test('one that was aborted by the other asks to start the upload again', async () => {
      const slow = await begin();
      await sendMissing(slow);
      await (await begin('a.tar', openFiles(root))).abort();
      await expect(slow.commit()).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        message: expect.stringContaining('start the upload again'),
      });
    });
  });

  describe('an exclusive upload', () => {
    const beginAlone = async (): Promise<Upload> =>
      openFiles(root).upload('a.tar', content.byteLength, { fingerprint: 'f', partSize: 1000, exclusive: true });
    /** Gives the unfinished file and its journal the names that another process would have given them. */
    const toOtherProcess = async (): Promise<string> => {
      const [partial, journal] = [await own('.partial'), await own('.parts')];
      const other = partial.replace(/\d+-\d+(?=-[0-9a-z]+\.partial$)/u, '12345-1');
      await rename(partial, other);
      await rename(journal, other.replace(/partial$/u, 'parts'));
      return other.replace(/partial$/u, 'parts');
    };

    test('publishes its own bytes where another upload of the same content wrote wrong ones meanwhile', async () => {
      const [good, bad] = [await beginAlone(), await beginAlone()];
      await sendMissing(good);
      await bad.part(3, Buffer.alloc(1000, 'wrong'));
      await good.commit();
      expect(await readFile(join(root, 'a.tar'))).toEqual(content);
      await bad.abort();
      expect(await readdir(root)).toEqual(['a.tar']);
    });

    test('does not touch the published file when another upload was faster', async () => {
      const [fast, slow] = [await beginAlone(), await beginAlone()];
      await sendMissing(fast);
      const { etag } = await fast.commit();
      await sendMissing(slow);
      expect((await store.stat('a.tar')).etag).toBe(etag);
    });

    test('is taken up again by the same process once it is released', async () => {
      const first = await beginAlone();
      await first.part(1, content.subarray(0, 1000));
      first.release?.();
      const again = await beginAlone();
      expect([...again.done.keys()]).toEqual([1]);
      await sendMissing(again);
      await again.commit();
      expect(await readdir(root)).toEqual(['a.tar']);
    });

    test('is taken up again where the process that held it crashed long ago', async () => {
      const crashed = await beginAlone();
      await crashed.part(2, content.subarray(1000, 2000));
      crashed.release?.();
      const journal = await toOtherProcess();
      for (const file of [journal, journal.replace(/parts$/u, 'partial')]) await utimes(file, 1000, 1000);
      const again = await beginAlone();
      expect([...again.done.keys()]).toEqual([2]);
      await again.abort();
      expect(await readdir(root)).toEqual([]);
    });

    test('has a file of its own where another process still holds one', async () => {
      const other = await beginAlone();
      await sendMissing(other);
      other.release?.();
      const journal = await toOtherProcess();
      let beats = 0;
      const beating = setInterval(() => utimesSync(journal, Date.now() / 1000, ++beats), 20);
      const alone = await beginAlone();
      clearInterval(beating);
      expect(alone.done.size).toBe(0);
      await sendMissing(alone);
      await alone.commit();
      expect(await readFile(join(root, 'a.tar'))).toEqual(content);
    });

    test('is touched while what is stored in it is checked, so that no other process takes it over', async () => {
      const first = await beginAlone();
      await first.part(1, content.subarray(0, 1000));
      first.release?.();
      const sleep = vi.spyOn(systemClock, 'sleep');
      onTestFinished(() => sleep.mockRestore());
      const { signal } = new AbortController();
      let touching = 0;
      // the last look at the signal is made before the last stored part is read
      Object.defineProperty(signal, 'aborted', {
        get: () => {
          touching = sleep.mock.calls.length;
          return false;
        },
      });
      const again = await store.upload('a.tar', content.byteLength, {
        fingerprint: 'f',
        partSize: 1000,
        exclusive: true,
        signal,
      });
      expect(again.done.size).toBe(1);
      expect(touching).toBeGreaterThan(0);
      await again.abort();
    });

    test('keeps its journal where a list of the folder lacks the file, which was renamed meanwhile', async () => {
      const held = await beginAlone();
      await held.part(1, content.subarray(0, 1000));
      const journal = await own('.parts');
      const { readdir: list } = promises;
      promises.readdir = (async () => [basename(journal)]) as unknown as typeof list;
      syncBuiltinESMExports();
      let other: Upload;
      try {
        other = await beginAlone();
      } finally {
        promises.readdir = list;
        syncBuiltinESMExports();
      }
      await other.abort();
      await sendMissing(held);
      await held.commit();
      expect(await readFile(join(root, 'a.tar'))).toEqual(content);
      await expect(stat(journal)).rejects.toThrow('ENOENT');
    });

    test('is not published by a process that another one has overtaken', async () => {
      const overtaken = await beginAlone();
      await sendMissing(overtaken);
      await toOtherProcess();
      await expect(overtaken.commit()).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        message: expect.stringContaining('start the upload again'),
      });
      await expect(store.stat('a.tar')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    });
  });

  test('a process killed at every write and restarted until it is done: the same bytes, and only the part in transit is sent twice', async () => {
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
    for (let point = 1; point <= whole.writes(); point++) {
      await rm(join(root, 'a.tar'), { force: true });
      const first = crashing(openFiles(root), point);
      await expect(backup(first.store)).rejects.toMatchObject({ name: 'Crash' });
      await expect(first.store.stat('a.tar')).rejects.toMatchObject({ name: 'Crash' });
      const second = crashing(openFiles(root), Number.POSITIVE_INFINITY);
      // killed after commit: the caller finds the object and is done
      if ((await readdir(root)).includes('a.tar')) expect(point).toBe(14);
      else await backup(second.store);
      expect(await readFile(join(root, 'a.tar'))).toEqual(content);
      expect(await readdir(root)).toEqual(['a.tar']);
      expect(first.bytesSent() + second.bytesSent()).toBeLessThanOrEqual(content.byteLength);
    }
  });
});
