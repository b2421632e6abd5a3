// Objects published as artifacts, and extracted.
import { DeleteObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { mkdir, readdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { objectArtifact } from '../../worker/artifacts/object-artifact.ts';
import { once } from '../../worker/content/bytes.ts';
import type { Source, Target } from '../../worker/content/content.ts';
import { MemoryContent } from '../../worker/content/memory.ts';
import { openFiles } from '../../worker/objects/files/store.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { digestOf, hexOf } from '../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../worker/oci/manifest.ts';
import { describeFailure, Failure } from '../../worker/util/failure.ts';
import { replaceBackends } from '../support/backends.ts';
import { collect } from '../support/chunks.ts';
import { crashed, CrashPoints } from '../support/crash.ts';
import { crashing } from '../support/faulty-objects.ts';
import { makeImage, seededBytes } from '../support/images.ts';
import { openLab, requestsDuring, sentenceOf, type Session } from '../support/lab.ts';
import { crashingTarget } from '../support/process-run.ts';
import { clientOf } from '../support/local-s3.ts';
import type { Backends } from '../../worker/images/backends.ts';
import { MemoryObjects } from '../support/memory-objects.ts';
import { runExtract, runPublish, store, treeIn, treeOf, type MadeObject, type Tree } from '../support/published.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, s3, bucket } = lab.stack;

type Ends = Pick<Session, 'options'> & { readonly backends: Backends };

/** A session with these buckets and repositories. */
function ends(change: Parameters<typeof replaceBackends>[1]): Ends & { readonly events: Session['events'] } {
  const { backends, options, events } = lab.session();
  return { backends: replaceBackends(backends, change), options, events };
}

async function s3RequestsDuring(work: () => Promise<unknown>): Promise<Readonly<Record<string, number>>> {
  const before = new Set(s3.requests);
  await work();
  const operations = s3.requests.filter((request) => !before.has(request)).map(({ operation = 'none' }) => operation);
  return Object.fromEntries(
    [...Map.groupBy(operations, (operation) => operation)].map(([name, all]) => [name, all.length]),
  );
}

/** The requests to both sides while `work` ran, and its result. */
async function counted<T>(work: () => Promise<T>): Promise<readonly [Readonly<Record<string, number>>, T]> {
  const results: T[] = [];
  let asked: Readonly<Record<string, number>> = {};
  const objects = await s3RequestsDuring(async () => {
    asked = await requestsDuring(ecr, async () => void results.push(await work()));
  });
  const [result] = results;
  if (result === undefined) throw new Error('it came to nothing');
  return [{ ...asked, ...objects }, result];
}

async function send(command: DeleteObjectCommand | PutObjectCommand): Promise<void> {
  const client = clientOf(s3);
  if (command instanceof DeleteObjectCommand) await client.send(command);
  else await client.send(command);
  client.destroy();
}

const text = (content: string): Uint8Array => Buffer.from(content);

describe('publish', () => {
  test('sends each content of a thousand objects once, and nothing where no object changed', async () => {
    const objects: Record<string, MadeObject> = {
      'an empty one': { bytes: text(''), contentType: 'text/plain' },
      'large.bin': { bytes: seededBytes('large', 9 * 1024 * 1024), contentType: 'application/zip' },
    };
    for (let i = 0; i < 999; i++)
      objects[`ключ/${i % 7}/日本 ${i}+%20&?.txt`] = {
        bytes: text(`content ${i % 30}`),
        contentType: i % 2 === 0 ? 'text/plain; charset=utf-8' : 'application/x-of-our-own',
        metadata: i % 3 === 0 ? { 'who-made-it': `maker ${i}` } : {},
      };
    const home = lab.session().backends.bucket(bucket);
    await Promise.all(
      Object.entries(objects).map(async (object) => store(home, Object.fromEntries([object]), 'tree/')),
    );
    const [from, to] = [`s3://${bucket}/tree/`, `${ecr.registryHost}/thousand`];
    const [sending, first] = await counted(async () => runPublish(lab.session(), from, to));
    expect(first).toMatchObject({ outcome: 'published', objects: { published: 1001, unchanged: 0, failed: 0 } });
    // each of the contents that are not empty, and the two bytes that stand for the empty ones
    expect(sending).toMatchObject({ 'upload-put': 32, ListObjectsV2: 2 });

    const [asking, second] = await counted(async () => runPublish(lab.session(), from, to));
    expect(second).toMatchObject({ outcome: 'unchanged', snapshot: first.snapshot, objects: { unchanged: 1001 } });
    expect(asking).toEqual({ ListObjectsV2: 2, 'manifest-head': 1, 'manifest-get': 1, api: 1 });
    const [listing] = await counted(async () => runPublish(lab.session(), from, to, { lastListing: first.listing }));
    expect(listing).toEqual({ ListObjectsV2: 2 });

    const before = { ...objects };
    const [, changed = '', removed = ''] = Object.keys(objects).filter((key) => key.startsWith('ключ'));
    objects[changed] = { bytes: text('content 1'), contentType: 'text/markdown', metadata: { now: 'another' } };
    objects['new/one'] = { bytes: text('all new'), contentType: 'text/plain' };
    Reflect.deleteProperty(objects, removed);
    await store(home, { [changed]: objects[changed], 'new/one': objects['new/one'] }, 'tree/');
    await send(new DeleteObjectCommand({ Bucket: bucket, Key: `tree/${removed}` }));
    const [more, third] = await counted(async () => runPublish(lab.session(), from, to));
    expect(third.objects).toEqual({ published: 2, unchanged: 999, removed: 1, failed: 0 });
    expect(more).toMatchObject({ GetObject: 2, HeadObject: 2, 'upload-put': 1 });

    const [now, then] = [new MemoryObjects(), new MemoryObjects()];
    await runExtract(ends({ bucket: () => now }), to, `s3://${bucket}/`);
    expect(await treeIn(now)).toEqual(treeOf(objects));
    await runExtract(ends({ bucket: () => then }), `${to}:${first.snapshot?.tag ?? ''}`, `s3://${bucket}/`);
    expect(await treeIn(then)).toEqual(treeOf(before));
  });

  test('ends like an uninterrupted run when it is killed, at whichever write', async () => {
    const objects = {
      a: { bytes: text('one') },
      'b/equal to a': { bytes: text('one') },
      'c empty': { bytes: text('') },
      d: { bytes: text('two'), contentType: 'text/plain' },
    };
    const from = new MemoryObjects();
    await store(from, objects);
    const publishUntil = async (memory: MemoryContent, points: CrashPoints): Promise<boolean> => {
      const repository = (): Source & Target => withTarget(memory, crashingTarget(memory, points));
      return crashed(runPublish(ends({ bucket: () => from, repository }), 's3://bucket', 'host.example/files'));
    };
    const whole = new MemoryContent();
    const points = new CrashPoints(Infinity);
    await publishUntil(whole, points);
    expect(points.count).toBeGreaterThan(20);
    for (let at = 1; at <= points.count; at++) {
      const killed = new MemoryContent();
      expect(await publishUntil(killed, new CrashPoints(at)), `killed at ${at}`).toBe(true);
      await publishUntil(killed, new CrashPoints(Infinity));
      expect(await artifactsIn(killed), `killed at ${at}`).toEqual(await artifactsIn(whole));
      const into = new MemoryObjects();
      const session = ends({ bucket: () => into, repository: () => withTarget(killed, killed) });
      await runExtract(session, 'host.example/files', 's3://bucket');
      expect(await treeIn(into), `killed at ${at}`).toEqual(treeOf(objects));
    }
  });

  test('names objects that cannot be read, publishes the others, and retries them in the next run', async () => {
    const home = lab.session().backends.bucket(bucket);
    const objects = {
      archived: { bytes: text('in Glacier'), contentType: 'text/plain' },
      denied: { bytes: text('encrypted'), contentType: 'text/plain' },
      fine: { bytes: text('fine'), contentType: 'text/plain' },
      large: { bytes: text('53 GB'), contentType: 'text/plain' },
      taken: { bytes: text('its tag is another artifact'), contentType: 'text/plain' },
    };
    await store(home, objects, 'odd/');
    const [from, to] = [`s3://${bucket}/odd/`, `${ecr.registryHost}/odd`];
    const taken = objectArtifact({ key: 'x', digest: digestOf(text('x')), size: 1, contentType: undefined });
    const view = lab.view(ecr, 'odd');
    await view.put(taken.layer, () => once(text('x')));
    await view.put({ mediaType: MEDIA_TYPE.ociEmpty, digest: digestOf(text('{}')), size: 2 }, () => once(text('{}')));
    await view.tag(hexOf(digestOf(objects.taken.bytes)), taken.descriptor, () => once(taken.bytes));
    const archived = { Bucket: bucket, Key: 'odd/archived', Body: objects.archived.bytes, ContentType: 'text/plain' };
    await send(new PutObjectCommand({ ...archived, StorageClass: 'GLACIER' }));
    s3.faults.add({ operation: 'GetObject', key: 'odd/denied' }, { kind: 'answer', status: 403, code: 'AccessDenied' });
    const grown = (inner: ObjectStore): ObjectStore => ({
      ...withMethodsOf(inner),
      stat: async (key, options) => {
        const info = await inner.stat(key, options);
        return key === 'odd/large' ? { ...info, size: 53_000 * 1024 * 1024 } : info;
      },
    });
    const first = await runPublish(ends({ bucket: grown }), from, to);
    expect(first.objects).toEqual({ published: 1, unchanged: 0, removed: 0, failed: 4 });
    // they are listed in the order in which they failed
    expect(first.failures.map(({ failure }) => describeFailure(failure)).toSorted()).toEqual([
      expect.stringMatching(/^source: read s3:\/\/.*odd\/archived: it is archived .*restore the object first/),
      expect.stringMatching(/^source: read s3:\/\/.*odd\/denied: .*s3:GetObject/),
      expect.stringMatching(/^source: s3:\/\/.*odd\/large has 55574528000 bytes.*54525952000 bytes at most/),
      expect.stringMatching(/^target: the tag [0-9a-f]{64} stands for something else/),
    ]);
    await send(new PutObjectCommand(archived));
    // the same failures again make no other snapshot
    const again = await runPublish(ends({ bucket: grown }), from, to);
    expect(again).toMatchObject({ objects: { published: 2, unchanged: 1, failed: 2 }, outcome: 'published' });
    const third = await runPublish(ends({ bucket: grown }), from, to);
    expect(third).toMatchObject({ objects: { published: 0, unchanged: 3, failed: 2 }, outcome: 'unchanged' });
    expect(third.snapshot).toEqual(again.snapshot);
    const into = new MemoryObjects();
    await runExtract(ends({ bucket: () => into }), to, 's3://bucket');
    expect(Object.keys(await treeIn(into))).toEqual(['archived', 'denied', 'fine']);
  });

  test('reads an object again that changes while it is read, and leaves out one that disappears', async () => {
    const from = new MemoryObjects();
    await store(from, {
      changing: { bytes: text('before') },
      gone: { bytes: text('soon gone') },
      restless: { bytes: text('0') },
    });
    await store(from, { big: { bytes: seededBytes('before', 9 * 1024 * 1024) } });
    const bigger = seededBytes('after', 9 * 1024 * 1024);
    let [reads, looks, changes] = [0, 0, 0];
    const moving: ObjectStore = {
      ...withMethodsOf(from),
      read: async (key, options) => {
        // after its digest was computed, before it is sent
        if (key === 'big' && ++looks === 2) await from.write(key, bigger);
        reads++;
        if (key === 'gone') from.remove(key);
        if (key === 'changing' && changes++ === 0) await from.write(key, text('after'));
        if (key === 'restless') await from.write(key, text(String(reads)));
        return from.read(key, options);
      },
    };
    const to = `${registry.registryHost}/moving`;
    const result = await runPublish(ends({ bucket: () => moving }), 's3://bucket', to);
    expect(result.objects).toEqual({ published: 2, unchanged: 0, removed: 0, failed: 1 });
    expect(describeFailure(result.failures[0]?.failure)).toMatch(
      /restless.*changed while it was read, 3 times in a row/,
    );
    const into = new MemoryObjects();
    await runExtract(ends({ bucket: () => into }), to, 's3://bucket');
    expect(await treeIn(into)).toEqual(treeOf({ big: { bytes: bigger }, changing: { bytes: text('after') } }));
    expect(await runPublish(ends({ bucket: () => from }), 's3://bucket', to)).toMatchObject({
      objects: { published: 1, unchanged: 2, removed: 0, failed: 0 },
    });
  });

  test('keeps a content type that the registry refuses only in the snapshot', async () => {
    const [from, into, memory] = [new MemoryObjects(), new MemoryObjects(), new MemoryContent()];
    await store(from, {
      a: { bytes: text('a'), contentType: 'model/odd' },
      b: { bytes: text('b'), contentType: 'a/b' },
    });
    const strict = withTarget(memory, {
      ...withTarget(memory, memory),
      tag: async (name, descriptor, open, options) => {
        if ((await collect(open())).includes('model/odd'))
          throw new Failure('UNSUPPORTED', 'it does not take model/odd');
        await memory.tag(name, descriptor, open, options);
      },
    });
    const repository = (): Source & Target => strict;
    const result = await runPublish(ends({ bucket: () => from, repository }), 's3://bucket', 'host.example/strict');
    expect(result.objects).toMatchObject({ published: 2, failed: 0 });
    await runExtract(ends({ bucket: () => into, repository }), 'host.example/strict', 's3://bucket');
    expect(await treeIn(into)).toEqual(await treeIn(from));
  });

  test('refuses a repository of something else, and a place without objects', async () => {
    const from = new MemoryObjects();
    const session = ends({ bucket: () => from });
    const [image, to] = [`${registry.registryHost}/app`, `${registry.registryHost}/of-one`];
    await lab.push(await makeImage({ tag: 'latest' }), registry, 'app');
    await store(from, { a: { bytes: text('a') } }, 'one/');
    await store(from, { a: { bytes: text('b') } }, 'two/');
    expect(await sentenceOf(runPublish(session, 's3://bucket/none', to), 'NOT_FOUND')).toMatch(/no object below it/);
    expect(await sentenceOf(runPublish(session, 's3://bucket/one', image), 'CONFLICT')).toMatch(
      /latest stands for something else than a snapshot/,
    );
    expect(await runPublish(session, 's3://bucket/one', to, { dryRun: true })).toMatchObject({
      outcome: 'planned',
      objects: { published: 1 },
    });
    await runPublish(session, 's3://bucket/one', to);
    expect(await sentenceOf(runPublish(session, 's3://bucket/two', to), 'CONFLICT')).toMatch(
      /holds snapshots of s3:\/\/bucket\/one\//,
    );
    expect(await runPublish(session, 's3://bucket/two', to, { force: true })).toMatchObject({
      objects: { published: 1, removed: 0 },
    });
    expect(await sentenceOf(runExtract(session, image, lab.folder), 'UNSUPPORTED')).toMatch(/holds no files/);
  });

  test('publishes artifacts and shards again that were deleted from the registry', async () => {
    const from = new MemoryObjects();
    const session = ends({ bucket: () => from });
    await store(from, { kept: { bytes: text('kept') }, lost: { bytes: text('lost') } });
    const to = `${registry.registryHost}/lost`;
    await runPublish(session, 's3://bucket', to);
    const client = lab.client(registry);
    const lost = await client.repository('lost').resolve(hexOf(digestOf(text('lost'))));
    await fetch(`${registry.url}/v2/lost/manifests/${lost.digest}`, { method: 'DELETE' });
    await store(from, { more: { bytes: text('more') } });
    expect(await runPublish(session, 's3://bucket', to)).toMatchObject({
      objects: { published: 3 },
      outcome: 'published',
    });
    expect(session.events).toContainEqual(
      expect.objectContaining({ type: 'warning', message: expect.stringMatching(/looked at again/) }),
    );
    const into = new MemoryObjects();
    await runExtract(ends({ bucket: () => into }), to, 's3://bucket');
    expect(Object.keys(await treeIn(into))).toEqual(['kept', 'lost', 'more']);

    const latest = await (await fetch(`${registry.url}/v2/lost/manifests/latest`)).text();
    const [shard = ''] = /sha256:[0-9a-f]{64}/.exec(latest) ?? [];
    await fetch(`${registry.url}/v2/lost/manifests/${shard}`, { method: 'DELETE' });
    expect(await sentenceOf(runExtract(session, to, 's3://bucket'), 'NOT_FOUND')).toMatch(/^source: /);
    await store(from, { most: { bytes: text('most') } });
    expect(await runPublish(session, 's3://bucket', to)).toMatchObject({ objects: { published: 4 } });
  });
});

describe('extract', () => {
  const ODD: Readonly<Record<string, MadeObject>> = {
    '../x': { bytes: text('1') },
    '/absolute': { bytes: text('2') },
    'a//b': { bytes: text('3') },
    'bell\u0007\n\u001b[31m': { bytes: text('4') },
    dir: { bytes: text('5') },
    'dir/file': { bytes: text('6') },
    'folder/': { bytes: text('') },
    [`long/${'ü'.repeat(509)}`]: { bytes: text('7') },
    'ok/.././../../etc/passwd': { bytes: text('8') },
    'dangling/x': { bytes: text('11') },
    'link/out': { bytes: text('9') },
    plain: { bytes: text('10') },
  };

  test('writes nothing outside the target, and names the reason for each key that cannot be there', async () => {
    const from = new MemoryObjects();
    await store(from, ODD, 'p/');
    const to = `${registry.registryHost}/odd-keys`;
    expect(await runPublish(ends({ bucket: () => from }), 's3://bucket/p', to)).toMatchObject({
      objects: { failed: 0 },
    });
    const [outer, inner] = [join(lab.folder, 'outer'), join(lab.folder, 'outer', 'inner')];
    await mkdir(inner, { recursive: true });
    await symlink(outer, join(inner, 'link'));
    await symlink('nowhere', join(inner, 'dangling'));
    const session = lab.session();
    const result = await runExtract({ ...session, options: { ...session.options, concurrency: 1 } }, to, inner);
    const why = Object.fromEntries(result.failures.map(({ key, failure }) => [key, failure.message]));
    const NOT_BELOW = expect.stringMatching(/is not a path below the target/);
    expect(why).toEqual({
      '../x': NOT_BELOW,
      '/absolute': NOT_BELOW,
      'a//b': NOT_BELOW,
      'dangling/x': expect.stringMatching(/^write .*dangling\/x: /),
      'dir/file': expect.stringMatching(/a file is where a folder is wanted/),
      [`long/${'ü'.repeat(509)}`]: expect.stringMatching(/does not take that path/),
      'link/out': expect.stringMatching(/a link on the way leads out of/),
      'ok/.././../../etc/passwd': NOT_BELOW,
    });
    expect(result.objects).toEqual({ written: 3, unchanged: 0, skipped: 1, failed: 8 });
    expect(await readdir(outer)).toEqual(['inner']);
    const written = await treeIn(session.backends.folder(inner));
    expect(Object.keys(written)).toEqual(['bell\u0007\n\u001b[31m', 'dir', 'plain']);
    // in a bucket all keys can exist except those with dots
    const into = new MemoryObjects();
    const there = await runExtract(ends({ bucket: () => into }), to, 's3://bucket/below');
    expect(there.failures.map(({ key }) => key)).toEqual(['../x', 'ok/.././../../etc/passwd']);
    expect(Object.keys(await treeIn(into)).every((key) => key.startsWith('below/'))).toBe(true);
  });

  test('ends with the same tree when it was killed, at whichever write', async () => {
    const [from, memory] = [new MemoryObjects(), new MemoryContent()];
    const large = { bytes: seededBytes('large', 1024 * 1024 + 1), contentType: 'application/zip' };
    await store(from, { a: { bytes: text('a'), metadata: { m: '1' } }, 'b/empty': { bytes: text('') }, large });
    const repository = (): Source & Target => withTarget(memory, memory);
    await runPublish(ends({ bucket: () => from, repository }), 's3://bucket', 'host.example/files');
    const extractUntil = async (bucketNow: ObjectStore): Promise<boolean> =>
      crashed(runExtract(ends({ bucket: () => bucketNow, repository }), 'host.example/files', 's3://bucket'));
    const whole = crashing(new MemoryObjects(), Infinity);
    await extractUntil(whole.store);
    expect(whole.writes()).toBeGreaterThan(5);
    for (let at = 1; at <= whole.writes(); at++) {
      const into = new MemoryObjects();
      expect(await extractUntil(crashing(into, at).store), `killed at ${at}`).toBe(true);
      expect(await extractUntil(into)).toBe(false);
      expect(await treeIn(into), `killed at ${at}`).toEqual(await treeIn(from));
    }
  });

  test('extracts every tree that was published, whatever was added and removed in between', async () => {
    const names = fc.oneof(
      fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }),
      fc.constantFrom('a', 'a/b', 'z/'),
    );
    const made = fc.record({
      bytes: fc.constantFrom('', 'x', 'y', '{}').map(text),
      contentType: fc.constantFrom('text/plain', 'a/b; c=d'),
      metadata: fc.constantFrom<Readonly<Record<string, string>>[]>({}, { m: 'n' }),
    });
    const trees = fc.array(fc.dictionary(names, fc.option(made, { nil: undefined }), { minKeys: 1, maxKeys: 20 }), {
      minLength: 1,
      maxLength: 4,
    });
    await fc.assert(
      fc.asyncProperty(trees, async (changes) => {
        const [from, memory] = [new MemoryObjects(), new MemoryContent()];
        const { backends, options } = ends({ bucket: () => from, repository: () => withTarget(memory, memory) });
        const snapshots = new Map<string, Tree>();
        await from.write('always', text('there'));
        for (const change of changes) {
          for (const [key, object] of Object.entries(change)) {
            if (object === undefined) from.remove(key);
            else await store(from, { [key]: object });
          }
          const { snapshot } = await runPublish({ backends, options }, 's3://bucket', 'host.example/files');
          snapshots.set(snapshot?.tag ?? '', await treeIn(from));
        }
        for (const [tag, tree] of snapshots) {
          const into = new MemoryObjects();
          const session = { backends: replaceBackends(backends, { bucket: () => into }), options };
          const { failures } = await runExtract(session, `host.example/files:${tag}`, 's3://bucket');
          for (const { key } of failures)
            expect(key.split('/').some((name) => name === '.' || name === '..')).toBe(true);
          const failed = new Set(failures.map(({ key }) => key));
          expect(await treeIn(into)).toEqual(without(tree, failed));
        }
      }),
      { numRuns: 40 },
    );
  });

  test('leaves identical files alone, and replaces different ones only when forced', async () => {
    const [from, into] = [new MemoryObjects(), new MemoryObjects()];
    const a = { bytes: text('a'), contentType: 'text/plain', metadata: { m: '1' } };
    await store(from, { a, b: { bytes: text('b') } });
    const to = `${registry.registryHost}/again`;
    await runPublish(ends({ bucket: () => from }), 's3://bucket', to);
    const session = ends({ bucket: () => into });
    const run = async (more?: object) => (await runExtract(session, to, 's3://bucket', more)).objects;
    expect(await run({ dryRun: true })).toEqual({ written: 2, unchanged: 0, skipped: 0, failed: 0 });
    expect(await treeIn(into)).toEqual({});
    await run();
    await store(into, { a: { ...a, metadata: { m: '2' } } });
    expect(await run()).toEqual({ written: 0, unchanged: 1, skipped: 0, failed: 1 });
    expect(await run({ force: true })).toEqual({ written: 1, unchanged: 1, skipped: 0, failed: 0 });
    expect(await treeIn(into)).toEqual(await treeIn(from));
  });

  test('reads a snapshot that was copied into an archive and from there to another registry', async () => {
    const [from, into] = [new MemoryObjects(), new MemoryObjects()];
    for (let i = 0; i < 1200; i++) await from.write(`key ${i}`, text(`content ${i % 3}`));
    const [to, archive] = [`${registry.registryHost}/to-copy`, `oci-archive:${join(lab.folder, 'snapshot.tar')}`];
    await runPublish(ends({ bucket: () => from }), 's3://bucket', to);
    const session = lab.session();
    await session.copy(`docker://${to}:latest`, archive);
    await session.copy(archive, `docker://${ecr.registryHost}/copied:latest`);
    await runExtract(ends({ bucket: () => into }), `${ecr.registryHost}/copied`, 's3://bucket');
    expect(await treeIn(into)).toEqual(await treeIn(from));
  });

  test('merges no two names that a file system treats as one', async () => {
    const from = new MemoryObjects();
    await store(from, { 'A.txt': { bytes: text('same') }, 'a.txt': { bytes: text('same') } });
    const to = `${registry.registryHost}/case`;
    await runPublish(ends({ bucket: () => from }), 's3://bucket', to);
    const folder = openFiles(join(lab.folder, 'case'));
    const names = new Map<string, string>();
    // it is asked for the name first
    const blind = (key: string): string => names.get(key.toLowerCase()) ?? (names.set(key.toLowerCase(), key), key);
    const insensitive: ObjectStore = {
      ...withMethodsOf(folder),
      stat: async (key, options) => folder.stat(blind(key), options),
      read: async (key, options) => folder.read(blind(key), options),
      write: async (key, body, options) => folder.write(blind(key), body, options),
    };
    const { backends, options } = lab.session();
    const session = { backends: { ...backends, folder: () => insensitive }, options: { ...options, concurrency: 1 } };
    for (const more of [{}, { force: true }]) {
      const result = await runExtract(session, to, 'anywhere', more);
      expect(result.objects.failed).toBe(1);
      expect(result.failures[0]?.failure.message).toMatch(/a\.txt: the file system does not distinguish its name/);
    }
  });

  test('extracts single objects by tag, and what oras pushed by its titles', async () => {
    const from = new MemoryObjects();
    await store(from, {
      'deep/one.json': { bytes: text('{}'), contentType: 'application/json' },
      none: { bytes: text('') },
    });
    const to = `${registry.registryHost}/single`;
    await runPublish(ends({ bucket: () => from }), 's3://bucket', to);
    const into = new MemoryObjects();
    const session = ends({ bucket: () => into });
    for (const content of ['{}', ''])
      await runExtract(session, `${to}:${hexOf(digestOf(text(content)))}`, 's3://bucket');
    const view = lab.view(registry, 'single');
    const layer = (title: string | undefined, content: string, more = {}) => ({
      mediaType: 'application/vnd.acme.rocket.docs.layer.v1+tar',
      digest: digestOf(text(content)),
      size: content.length,
      ...(title === undefined ? {} : { annotations: { 'org.opencontainers.image.title': title, ...more } }),
    });
    const layers = [
      layer('docs/readme', 'read me'),
      layer(undefined, 'no name'),
      layer('../out', 'out'),
      layer('tree', 'packed', { 'io.deis.oras.content.unpack': 'true' }),
    ];
    for (const content of ['read me', 'no name', 'out', 'packed'])
      await view.put(layer(undefined, content), () => once(text(content)));
    const config = { mediaType: MEDIA_TYPE.ociEmpty, digest: digestOf(text('{}')), size: 2 };
    const bytes = text(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: MEDIA_TYPE.ociManifest,
        artifactType: 'application/vnd.acme',
        config,
        layers,
      }),
    );
    await view.tag('oras', { mediaType: MEDIA_TYPE.ociManifest, digest: digestOf(bytes), size: bytes.byteLength }, () =>
      once(bytes),
    );
    const result = await runExtract(session, `${to}:oras`, 's3://bucket/oras');
    expect(result.failures.map(({ key }) => key)).toEqual(['../out']);
    const found = await Promise.all(
      ['one.json', 'none', 'oras/docs/readme', 'oras/tree.tar.gz'].map(async (key) =>
        (await collect(await into.read(key))).toString(),
      ),
    );
    expect(found).toEqual(['{}', '', 'read me', 'packed']);
    expect(Object.keys(await treeIn(into))).toHaveLength(4);
  });
});

/** `memory` with another way to write to it. */
function withTarget(memory: MemoryContent, target: Target): Source & Target {
  return {
    resolve: async (reference, options) => memory.resolve(reference, options),
    open: async (descriptor, options) => memory.open(descriptor, options),
    referrers: (descriptor, options) => memory.referrers(descriptor, options),
    tags: (options) => memory.tags(options),
    has: async (descriptor, options) => target.has(descriptor, options),
    put: async (descriptor, open, options) => target.put(descriptor, open, options),
    tag: async (name, descriptor, open, options) => target.tag(name, descriptor, open, options),
  };
}

/** The methods of `inner`, some of which a test replaces. */
function withMethodsOf(inner: ObjectStore): ObjectStore {
  return {
    describe: (key) => inner.describe(key),
    stat: async (key, options) => inner.stat(key, options),
    read: async (key, options) => inner.read(key, options),
    write: async (key, body, options) => inner.write(key, body, options),
    stream: async (key, body, options) => inner.stream(key, body, options),
    list: (prefix, options) => inner.list(prefix, options),
    upload: async (key, size, options) => inner.upload(key, size, options),
  };
}

function without(tree: Tree, keys: ReadonlySet<string>): Tree {
  return Object.fromEntries(Object.entries(tree).filter(([key]) => !keys.has(key)));
}

/** The tags of objects, and what they stand for. */
async function artifactsIn(memory: MemoryContent): Promise<Readonly<Record<string, string>>> {
  const found: Record<string, string> = {};
  for await (const tag of memory.tags())
    if (/^[0-9a-f]{64}$/.test(tag)) found[tag] = (await memory.resolve(tag)).digest;
  return found;
}
