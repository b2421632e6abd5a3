// Snapshots with false entries, registries that lost a part of one, stores that list objects that they do not find.
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, expect, test } from 'vitest';
import { Shards } from '../../worker/artifacts/shards.ts';
import { snapshotDocument, type SnapshotEntry, type SnapshotFacts } from '../../worker/artifacts/snapshot.ts';
import { once } from '../../worker/content/bytes.ts';
import { MemoryContent } from '../../worker/content/memory.ts';
import type { Backends } from '../../worker/images/backends.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { digestOf, hexOf, type Digest } from '../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../worker/oci/manifest.ts';
import { describeFailure, Failure } from '../../worker/util/failure.ts';
import { replaceBackends } from '../support/backends.ts';
import { collect } from '../support/chunks.ts';
import { openLab, sentenceOf, type Session } from '../support/lab.ts';
import { clientOf } from '../support/local-s3.ts';
import { MemoryObjects } from '../support/memory-objects.ts';
import { runExtract, runPublish, store, treeIn } from '../support/published.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { registry, s3, bucket } = lab.stack;

type Ends = Omit<Session, 'backends'> & { readonly backends: Backends };

function ends(change: Parameters<typeof replaceBackends>[1]): Ends {
  const session = lab.session();
  return { ...session, backends: replaceBackends(session.backends, change) };
}

const text = (content: string): Uint8Array => Buffer.from(content);

const FACTS: SnapshotFacts = {
  source: 's3://bucket/',
  created: '2026-12-01T02:00:00Z',
  objects: 0,
  bytes: 0,
  failed: 0,
  listing: digestOf(text('')),
};

function entryOf(key: string, digest: Digest, size: number, more: Partial<SnapshotEntry> = {}): SnapshotEntry {
  const artifact = { mediaType: MEDIA_TYPE.ociManifest, digest: digestOf(text('no manifest')), size: 11 };
  const facts = { etag: 'e', modified: FACTS.created, version: undefined, contentType: undefined, metadata: {} };
  return { ...facts, key, digest, size, artifact, ...more };
}

test('a lost or broken part of the last snapshot in the registry is written again by the next change', async () => {
  const from = new MemoryObjects();
  const session = ends({ bucket: () => from });
  await store(from, { kept: { bytes: text('kept') } });
  const to = `${registry.registryHost}/lost-shard`;
  await runPublish(session, 's3://bucket', to);
  const view = lab.view(registry, 'lost-shard');
  const latest = await view.resolve('latest');
  const { manifests } = JSON.parse((await collect(await view.open(latest))).toString());
  await fetch(`${registry.url}/v2/lost-shard/manifests/${manifests[0].digest}`, { method: 'DELETE' });
  await store(from, { more: { bytes: text('more') } });
  expect(await runPublish(session, 's3://bucket', to)).toMatchObject({ objects: { published: 2, failed: 0 } });

  const wrong = snapshotDocument(FACTS, [await view.resolve(hexOf(digestOf(text('kept'))))]);
  await view.tag('latest', wrong.descriptor, () => once(wrong.bytes));
  expect(await sentenceOf(runExtract(session, to, 's3://bucket'), 'INVALID')).toMatch(/^source: .*not a shard/);
  expect(await runPublish(session, 's3://bucket', to)).toMatchObject({ objects: { published: 2, failed: 0 } });
  const into = new MemoryObjects();
  await runExtract(ends({ bucket: () => into }), to, 's3://bucket');
  expect(await treeIn(into)).toEqual(await treeIn(from));
});

test('an object that is listed and cannot be found by its key is a failure, and does not count as deleted', async () => {
  const from = new MemoryObjects();
  await store(from, { fine: { bytes: text('fine') }, 'line\nfeed': { bytes: text('listed') } });
  const forgetful: ObjectStore = {
    describe: (key) => from.describe(key),
    stat: async (key, options) => {
      if (key.includes('\n')) throw new Failure('NOT_FOUND', `look at ${key}: there is no such object`);
      return from.stat(key, options);
    },
    read: async (key, options) => from.read(key, options),
    write: async (key, body, options) => from.write(key, body, options),
    stream: async (key, body, options) => from.stream(key, body, options),
    list: (prefix, options) => from.list(prefix, options),
    upload: async (key, size, options) => from.upload(key, size, options),
  };
  const memory = new MemoryContent();
  const session = ends({ bucket: () => forgetful, repository: () => memory });
  const result = await runPublish(session, 's3://bucket', 'host.example/files');
  expect(result.objects).toEqual({ published: 1, unchanged: 0, removed: 0, failed: 1 });
  expect(result.failures.map(({ failure }) => describeFailure(failure))).toEqual([
    expect.stringMatching(/^source: look at line\nfeed: there is no such object, though it is listed/),
  ]);
});

test('an entry that does not match its object fails alone, and nothing is written for it', async () => {
  const content = text('content');
  const digest = digestOf(content);
  const lies = [
    entryOf('empty', digest, 0),
    entryOf('header', digest, content.byteLength, { contentType: 'text/plain\r\nx-amz-acl: public-read' }),
    entryOf('less', digest, 3),
    entryOf('more', digest, 900_000),
  ];
  const snapshotOf = async (entries: readonly SnapshotEntry[], created = FACTS.created): Promise<Ends> => {
    const memory = new MemoryContent();
    memory.add('application/octet-stream', content);
    const shards = new Shards();
    const documents = [...entries.flatMap((entry) => shards.add(entry)), ...shards.end()];
    const children = documents.map(({ descriptor, bytes }) => memory.add(descriptor.mediaType, bytes));
    const { descriptor, bytes } = snapshotDocument({ ...FACTS, created, objects: entries.length }, children);
    await memory.tag('latest', descriptor, () => once(bytes));
    return ends({ repository: () => memory });
  };
  const session = await snapshotOf([...lies, entryOf('true', digest, content.byteLength)]);
  const result = await runExtract(session, 'host.example/lies', `s3://${bucket}/lies/`);
  expect(result.failures.map(({ key }) => key).toSorted()).toEqual(lies.map(({ key }) => key));
  expect(Object.keys(await treeIn(lab.session().backends.bucket(bucket), 'lies/'))).toEqual(['true']);
  const others = lies.filter(({ key }) => key !== 'header');
  expect(await runExtract(await snapshotOf(others), 'host.example/lies', lab.folder)).toMatchObject({
    outcome: 'extracted',
    objects: { written: 0, failed: 3 },
  });
  const timeless = await snapshotOf([], '+275760-09-13T00:00:00Z');
  expect(await sentenceOf(runPublish(timeless, `s3://${bucket}/lies/`, 'host.example/lies'), 'INVALID')).toMatch(
    /lacks its source, its time or its listing/,
  );
});

test('an object with an empty content type is extracted once, and is then unchanged', async () => {
  const client = clientOf(s3);
  // the SDK omits an empty header
  client.middlewareStack.add(
    (next) => async (args) => {
      Reflect.set(Reflect.get(Object(args.request), 'headers'), 'content-type', '');
      return next(args);
    },
    { step: 'build' },
  );
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: 'untyped/a', Body: text('a') }));
  client.destroy();
  const to = `${registry.registryHost}/untyped`;
  await runPublish(lab.session(), `s3://${bucket}/untyped`, to);
  const extracted = async () => (await runExtract(lab.session(), to, `s3://${bucket}/typed`)).outcome;
  expect([await extracted(), await extracted()]).toEqual(['extracted', 'unchanged']);
});
