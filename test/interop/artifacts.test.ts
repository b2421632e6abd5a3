// Artifacts of objects between Transship and oras, over docker-registry. oras is not a package of Debian: without it the tests are skipped.
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { digestOf, hexOf } from '../../worker/oci/digest.ts';
import { seededBytes } from '../support/images.ts';
import { openLab } from '../support/interop-lab.ts';
import { isInstalled, run, transship } from '../support/interop-process.ts';
import { BUCKET } from '../support/local-s3.ts';

describe.skipIf(!isInstalled('oras'))('oras', async () => {
  const lab = await openLab();
  afterAll(() => lab[Symbol.asyncDispose]());
  const { o, folder, registry, client } = lab;
  const files = `${registry.host}/files`;
  const objects: Readonly<Record<string, Uint8Array>> = {
    'reports/2026/übersicht 1.bin': seededBytes('oras', 3 * 1024 * 1024),
    'reports/note.txt': Buffer.from('a note'),
    'reports/empty': Buffer.from(''),
  };
  for (const [Key, Body] of Object.entries(objects))
    await client.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body, ContentType: 'text/plain; charset=utf-8' }));
  await run(...transship(['publish', `s3://${BUCKET}/reports/`, files]), o);

  test('pulls each published object by the sha256 of its bytes, under its name', async () => {
    for (const [key, bytes] of Object.entries(objects)) {
      const to = join(folder, hexOf(digestOf(bytes)));
      await run('oras', ['pull', '--plain-http', '-o', to, `${files}:${hexOf(digestOf(bytes))}`], o);
      const names = await readdir(to);
      const name = key.slice(key.lastIndexOf('/') + 1);
      // an empty object is the two bytes of the empty descriptor for tools that do not know the annotation
      const expected = bytes.byteLength === 0 ? Buffer.from('{}') : bytes;
      expect(names).toEqual([name]);
      expect(Buffer.compare(await readFile(join(to, name)), expected)).toBe(0);
    }
  });

  test('reads the snapshot, and copies it with everything below it', async () => {
    const index = await run('oras', ['manifest', 'fetch', '--plain-http', `${files}:latest`], o);
    expect(JSON.parse(index.toString())).toMatchObject({ artifactType: 'application/vnd.transship.snapshot.v1' });
    const copy = `${registry.host}/copied-by-oras`;
    await run('oras', ['cp', '-r', '--from-plain-http', '--to-plain-http', `${files}:latest`, `${copy}:latest`], o);
    const to = join(folder, 'extracted');
    await run(...transship(['extract', copy, to]), o);
    for (const [key, bytes] of Object.entries(objects))
      expect(Buffer.compare(await readFile(join(to, key.replace('reports/', ''))), bytes)).toBe(0);
  });

  test('pushes files and a folder that Transship extracts by their titles', async () => {
    const [work, to] = [join(folder, 'push'), join(folder, 'pushed')];
    await mkdir(join(work, 'docs'), { recursive: true });
    await writeFile(join(work, 'a.txt'), 'a');
    await writeFile(join(work, 'docs', 'b.txt'), 'b');
    const push = ['push', '--plain-http', `${registry.host}/by-oras:v1`, 'a.txt:text/plain', 'docs/b.txt', 'docs'];
    await run('oras', push, { ...o, cwd: work });
    await run(...transship(['extract', `${registry.host}/by-oras:v1`, to]), o);
    expect((await readFile(join(to, 'a.txt'))).toString()).toBe('a');
    expect((await readFile(join(to, 'docs', 'b.txt'))).toString()).toBe('b');
    expect((await readdir(to)).toSorted()).toEqual(['a.txt', 'docs', 'docs.tar.gz']);
  });
});
