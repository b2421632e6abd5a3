import { GetObjectCommand, ListObjectVersionsCommand, ListMultipartUploadsCommand } from '@aws-sdk/client-s3';
import { readdir, readFile, writeFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { openImage } from '../../worker/archive/reader.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { backup, type BackupRequest } from '../../worker/images/backup.ts';
import { verify } from '../../worker/images/verify.ts';
import { describeFailure } from '../../worker/util/failure.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { failureOf, sentenceOf, openLab, requestsDuring, type Session } from '../support/lab.ts';
import { clientOf } from '../support/local-s3.ts';
import { expectSameImage } from '../support/same-image.ts';

const lab = await openLab();
const { ecr, registry, s3, bucket } = lab.stack;
const client = clientOf(s3);
afterAll(async () => {
  client.destroy();
  await lab[Symbol.asyncDispose]();
});

const at = (where: LocalRegistry, name: string): string => `docker://${where.registryHost}/${name}`;

async function run(r: BackupRequest, session: Session = lab.session()): ReturnType<typeof backup> {
  return backup(r, session.backends, session.options);
}

/** Keys of the bucket below `prefix`, sorted. */
async function keysBelow(prefix: string): Promise<readonly string[]> {
  const keys: string[] = [];
  for await (const { key } of lab.session().backends.bucket(bucket).list(prefix)) keys.push(key);
  return keys;
}

async function expectArchived(image: MadeImage, key: string): Promise<void> {
  await using archive = await openImage(lab.session().backends.bucket(bucket), key);
  await expectSameImage(image.content, archive, image.root);
}

async function textOf(key: string): Promise<string> {
  const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
  return (await Body?.transformToString()) ?? '';
}

/** Bytes that the bucket received since `from`. */
function receivedSince(from: number): number {
  return s3.requests.slice(from).reduce((sum, request) => sum + request.receivedBytes, 0);
}

describe('a backup', () => {
  test('of one tag is at the default key, whole, with its signatures', async () => {
    const image = await makeImage({ signed: true });
    await lab.push(image, ecr, 'default/app');
    const { items, faults } = await run({ from: `${at(ecr, 'default/app')}:v1`, to: `s3://${bucket}/one/` });
    const key = 'one/us-east-1/default/app/v1.tar';
    expect(items).toMatchObject([
      { outcome: 'copied', to: `s3://${bucket}/${key}`, digest: image.root.descriptor.digest },
    ]);
    expect(faults).toEqual([]);
    await expectArchived(image, key);
  });

  test('of a repository stores tags that only resemble those of lists of referrers', async () => {
    const other = await lab.registry({ mode: 'oci', referrersApi: false });
    const [signed, image, gone] = [
      await makeImage({ signed: true, seed: 32 }),
      await makeImage({ seed: 33 }),
      await makeImage({ seed: 34 }),
    ];
    await lab.push(signed, other, 'tagged/app');
    const tag = gone.root.descriptor.digest.replace(':', '-');
    await lab.push({ ...image, root: { ...image.root, tags: [tag] } }, other, 'tagged/app');
    await run({ from: at(other, 'tagged/app'), to: `s3://${bucket}/tagged/{repository}/{tag}.tar` });
    // without the list of referrers of the signed image
    expect(await keysBelow('tagged/')).toEqual([`tagged/tagged/app/${tag}.tar`, 'tagged/tagged/app/v1.tar']);
  });

  test('of a repository stores tags that only resemble those of cosign', async () => {
    const image = await makeImage({ signed: true, seed: 31 });
    await lab.push(image, ecr, 'lookalike/app');
    const tag = `${image.root.descriptor.digest.replace(':', '-')}.vex`;
    await lab.push({ ...image, root: { ...image.root, tags: [tag] } }, ecr, 'lookalike/app');
    await run({ from: at(ecr, 'lookalike/app'), to: `s3://${bucket}/lookalike/` });
    const folder = 'lookalike/us-east-1/lookalike/app';
    expect(await keysBelow(`${folder}/`)).toEqual([
      `${folder}/repository.json`,
      `${folder}/${tag}.tar`,
      `${folder}/v1.tar`,
    ]);
  });

  test('reports signatures that are left out because their image lost its tag', async () => {
    const before = await makeImage({ signed: true, seed: 32, platforms: ['linux/amd64'] });
    const after = await makeImage({ signed: true, seed: 33 });
    const warningsOf = async (r: Partial<BackupRequest>): Promise<readonly string[]> => {
      const session = lab.session();
      await run({ from: at(registry, 'moved/app'), to: `s3://${bucket}/moved/`, ...r }, session);
      return session.events.flatMap((event) => (event.type === 'warning' ? [event.message] : []));
    };
    await lab.push(before, registry, 'moved/app');
    expect(await warningsOf({})).toEqual([]);
    await lab.push(after, registry, 'moved/app');
    const tag = `${before.root.descriptor.digest.replace(':', '-')}.sig`;
    const warning = `moved/app: 1 of the tags of cosign are about no image that has a tag, and are not backed up: ${tag}`;
    expect(await warningsOf({})).toEqual([warning]);
    // an archive that exists already
    expect(await warningsOf({})).toEqual([warning]);
    expect(await warningsOf({ referrers: false, to: `s3://${bucket}/moved-alone/` })).toEqual([]);
    expect(await warningsOf({ from: `${at(registry, 'moved/app')}:v1` })).toEqual([]);
    expect(await warningsOf({ from: `${at(registry, 'moved/app')}:v*` })).toEqual([]);
  });

  test('of a pattern stores every tag of every matching repository, and none that stands for referrers', async () => {
    const image = await makeImage({ signed: true, seed: 2 });
    const other = await makeImage({ seed: 3, tag: 'v2' });
    await lab.push(image, ecr, 'pattern/one');
    await lab.push(other, ecr, 'pattern/one');
    await lab.push(image, ecr, 'pattern/two/deep');
    await lab.push(image, ecr, 'unpatterned/three');
    const { items } = await run({ from: at(ecr, 'pattern/*'), to: `s3://${bucket}/pattern/` });
    expect(items.map((item) => item.outcome)).toEqual(['copied', 'copied', 'copied']);
    const folder = 'pattern/us-east-1/pattern';
    expect(await keysBelow('pattern/')).toEqual([
      `${folder}/one/repository.json`,
      `${folder}/one/v1.tar`,
      `${folder}/one/v2.tar`,
      `${folder}/two/deep/repository.json`,
      `${folder}/two/deep/v1.tar`,
    ]);
    await expectArchived(image, `${folder}/one/v1.tar`);
    await expectArchived(other, `${folder}/one/v2.tar`);
    await expectArchived(image, `${folder}/two/deep/v1.tar`);
    const tags = await run({ from: `${at(ecr, 'pattern/{one,two/deep}')}:*2`, to: `s3://${bucket}/pattern/` });
    expect(tags.items.map((item) => [item.outcome, item.from])).toEqual([
      ['unchanged', `${at(ecr, 'pattern/one')}:v2`],
    ]);
  });

  test('stores the settings of each repository beside its archives', async () => {
    const { backends, options } = lab.session();
    const settings = {
      tagMutability: 'IMMUTABLE_WITH_EXCLUSION',
      tagMutabilityExclusions: ['latest*'],
      scanOnPush: true,
      tags: { team: 'web', cost: '42' },
      lifecyclePolicy: '{"rules":[]}',
      repositoryPolicy: '{"Version":"2012-10-17","Statement":[]}',
    };
    await backends.registry(ecr.registryHost, 'target').applySettings('settings/app', settings, options);
    await lab.push(await makeImage({ seed: 4 }), ecr, 'settings/app');
    await run({ from: at(ecr, 'settings/app'), to: `s3://${bucket}/settings/` });
    const stored: unknown = JSON.parse(await textOf('settings/us-east-1/settings/app/repository.json'));
    expect(stored).toMatchObject({ format: 1, repository: 'settings/app', settings });
  });

  test('still stores the images when it may not read the settings, and names the missing permission', async () => {
    const strict = await lab.registry({
      mode: 'ecr',
      account: '333333333333',
      region: 'eu-north-1',
      deny: ['ecr:GetLifecyclePolicy'],
    });
    const image = await makeImage({ seed: 5 });
    await lab.push(image, strict, 'secretive/app');
    const session = lab.session();
    const { items } = await run({ from: at(strict, 'secretive/app'), to: `s3://${bucket}/secretive/` }, session);
    expect(items).toMatchObject([{ outcome: 'copied' }]);
    expect(session.events.filter((event) => event.type === 'warning').map((event) => event.message)).toEqual([
      expect.stringContaining('ecr:GetLifecyclePolicy'),
    ]);
    expect(await keysBelow('secretive/')).toEqual(['secretive/eu-north-1/secretive/app/v1.tar']);
  });

  test('stores files in the same way', async () => {
    const image = await makeImage({ signed: true, seed: 6 });
    await lab.push(image, registry, 'files/app');
    const folder = join(lab.folder, 'files');
    const { items } = await run({
      from: at(registry, 'files/app'),
      to: `oci-archive:${folder}/{registry}/{repository}-{tag}.tar`,
    });
    expect(items).toMatchObject([{ outcome: 'copied' }]);
    const host = registry.registryHost.replace(':', '_');
    expect(await readdir(join(folder, host, 'files'))).toEqual(['app-v1.tar']);
    await using archive = await openImage(lab.session().backends.folder(join(folder, host, 'files')), 'app-v1.tar');
    await expectSameImage(image.content, archive, image.root);
  });

  test.each(['tar.gz', 'tar.zst'])('as .%s holds the same image', async (ending) => {
    const image = await makeImage({ signed: true, seed: 7 });
    await lab.push(image, registry, 'packed/app');
    const to = `s3://${bucket}/packed/{tag}.${ending}`;
    expect(await run({ from: at(registry, 'packed/app'), to })).toMatchObject({ items: [{ outcome: 'copied' }] });
    await using archive = await openImage(lab.session().backends.bucket(bucket), `packed/v1.${ending}`, {
      temporary: () => lab.session().backends.temporary(),
    });
    await expectSameImage(image.content, archive, image.root);
    const before = s3.requests.length;
    expect(await run({ from: at(registry, 'packed/app'), to })).toMatchObject({ items: [{ outcome: 'unchanged' }] });
    expect(receivedSince(before)).toBe(0);
  });

  test.each([
    ['tar.gz', 'written over', () => Buffer.from('ten bytes!')],
    ['tar.gz', 'cut in half', (whole) => whole.subarray(0, whole.byteLength >> 1)],
    ['tar.gz', 'cut by a byte', (whole) => whole.subarray(0, -1)],
    ['tar.gz', 'replaced by another of its size', (whole) => gzipSync(Buffer.alloc(gunzipSync(whole).byteLength))],
    ['tar.zst', 'written over', () => Buffer.from('ten bytes!')],
    ['tar.zst', 'cut in half', (whole) => whole.subarray(0, whole.byteLength >> 1)],
    ['tar.zst', 'cut by a byte', (whole) => whole.subarray(0, -1)],
    // the byte of the frame's window: https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1.1.2
    ['tar.zst', 'changed in the size of its window', (whole) => Uint8Array.from(whole).fill(0x90, 5, 6)],
  ] as const satisfies readonly (readonly [string, string, (whole: Buffer) => Uint8Array])[])(
    'as .%s that was %s, its metadata kept, is written again instead of unchanged',
    async (ending, how, damage) => {
      const image = await makeImage({ signed: true, seed: 17, layers: [200_000] });
      const name = `hurt/${how.replaceAll(' ', '-')}`;
      await lab.push(image, registry, name);
      const key = `${name}.${ending}`;
      const store = lab.session().backends.bucket(bucket);
      const copyIt = async (dryRun = false): Promise<string> => {
        const to = `s3://${bucket}/${key}`;
        return (await lab.session().copy(at(registry, `${name}:v1`), to, { dryRun })).outcome;
      };
      const bytes = async (): Promise<Buffer> =>
        Buffer.concat(await Array.fromAsync(await store.read(key), (chunk) => Buffer.from(chunk)));
      expect(await copyIt()).toBe('copied');
      const whole = await bytes();
      const { metadata } = await store.stat(key);
      await store.write(key, damage(whole), { metadata });
      expect(await copyIt(true)).toBe('planned');
      expect(await copyIt()).toBe('copied');
      expect((await bytes()).equals(whole)).toBe(true);
      expect(await copyIt()).toBe('unchanged');
    },
  );

  test('reports in a dry run what it would write, and writes nothing', async () => {
    await lab.push(await makeImage({ seed: 8 }), ecr, 'dry/app');
    const before = s3.requests.length;
    const { items } = await run({ from: at(ecr, 'dry/app'), to: `s3://${bucket}/dry/`, dryRun: true });
    expect(items).toMatchObject([{ outcome: 'planned', to: `s3://${bucket}/dry/us-east-1/dry/app/v1.tar` }]);
    expect(s3.requests.slice(before).filter((request) => !/^(?:GET|HEAD)$/.test(request.method))).toEqual([]);
  });

  test('of one platform holds that platform, and records its original index', async () => {
    const image = await makeImage({ seed: 9 });
    await lab.push(image, registry, 'platform/app');
    const { items } = await run({
      from: at(registry, 'platform/app'),
      to: `s3://${bucket}/platform/{tag}.tar`,
      platforms: ['linux/arm64'],
    });
    expect(items[0]?.result?.originalDigest).toBe(image.root.descriptor.digest);
    await using archive = await openImage(lab.session().backends.bucket(bucket), 'platform/v1.tar');
    expect(archive.root.descriptor.digest).toBe(items[0]?.digest);
    const graph = await walk(archive, [archive.root]);
    expect(graph.manifests.size).toBe(2);
  });
});

describe('a second backup', () => {
  test('of an unchanged image reads no layer and sends nothing', async () => {
    const image = await makeImage({ signed: true, seed: 10 });
    await lab.push(image, registry, 'again/app');
    const r = { from: at(registry, 'again/app'), to: `s3://${bucket}/again/{repository}/{tag}.tar` };
    await run(r);
    const before = s3.requests.length;
    const source = await requestsDuring(registry, async () => {
      expect(await run(r)).toMatchObject({ items: [{ outcome: 'unchanged' }] });
    });
    expect(source['blob-get']).toBeUndefined();
    // what is known is read from the archive; only the answers about referrers can have changed
    expect(source['manifest-get']).toBeUndefined();
    expect(receivedSince(before)).toBe(0);
    expect(s3.requests.slice(before).map((request) => request.method)).not.toContain('PUT');
  });

  test('includes a signature that was added since', async () => {
    const unsigned = await makeImage({ seed: 11 });
    const signed = await makeImage({ seed: 11, signed: true });
    await lab.push(unsigned, registry, 'signed-later/app');
    const r = { from: at(registry, 'signed-later/app'), to: `s3://${bucket}/signed-later/{tag}.tar` };
    await run(r);
    await lab.push(signed, registry, 'signed-later/app');
    expect(await run(r)).toMatchObject({ items: [{ outcome: 'copied', digest: unsigned.root.descriptor.digest }] });
    await expectArchived(signed, 'signed-later/v1.tar');
  });

  test('of a tag that moved replaces the archive, and the bucket keeps the previous version', async () => {
    const [first, second] = [await makeImage({ seed: 12 }), await makeImage({ seed: 13 })];
    const r = { from: `${at(ecr, 'moving/app')}:v1`, to: `s3://${bucket}/moving/` };
    const key = 'moving/us-east-1/moving/app/v1.tar';
    await lab.push(first, ecr, 'moving/app');
    await run(r);
    await lab.push(second, ecr, 'moving/app');
    expect(await run(r)).toMatchObject({ items: [{ outcome: 'copied', digest: second.root.descriptor.digest }] });
    await expectArchived(second, key);
    const { Versions = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix: key }));
    expect(Versions.map((version) => version.IsLatest)).toEqual([true, false]);
    // the previous version is still a whole archive
    const { Body } = await client.send(
      new GetObjectCommand({ Bucket: bucket, Key: key, VersionId: Versions[1]?.VersionId }),
    );
    const old = join(lab.folder, 'old');
    await mkdir(old);
    await writeFile(join(old, 'v1.tar'), (await Body?.transformToByteArray()) ?? '');
    await using archive = await openImage(lab.session().backends.folder(old), 'v1.tar');
    await expectSameImage(first.content, archive, first.root);
  });

  test('with --force writes existing archives again', async () => {
    const image = await makeImage({ seed: 14 });
    await lab.push(image, registry, 'forced/app');
    const r = { from: at(registry, 'forced/app'), to: `s3://${bucket}/forced/{tag}.tar` };
    await run(r);
    expect(await run({ ...r, force: true })).toMatchObject({ items: [{ outcome: 'copied' }] });
    await expectArchived(image, 'forced/v1.tar');
  });
});

describe('a backup that is interrupted', () => {
  /** Two parts. */
  const LAYERS = [6 * 1024 * 1024, 3 * 1024 * 1024];

  test('continues in a new process, and sends no part again', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'], layers: LAYERS, seed: 15 });
    await lab.push(image, registry, 'resumed/app');
    const r = { from: at(registry, 'resumed/app'), to: `s3://${bucket}/resumed/{tag}.tar` };
    const size = blobsOf(await walk(image.content, [image.root])).reduce((sum, d) => sum + d.size, 0);
    const before = s3.requests.length;
    s3.faults.add({ operation: 'CompleteMultipartUpload' }, { kind: 'answer', status: 403, code: 'AccessDenied' });
    const stopped = await run(r);
    expect(stopped.items).toMatchObject([{ outcome: 'failed', failure: { code: 'DENIED' } }]);
    expect(describeFailure(stopped.items[0]?.failure)).toMatch(/^target: .*s3:\/\/.*resumed\/v1\.tar.*s3:PutObject/);
    expect(await keysBelow('resumed/')).toEqual([]);
    const stored = s3.requests
      .slice(before)
      .filter((request) => request.operation === 'UploadPart' && request.status === 200)
      .reduce((sum, request) => sum + request.receivedBytes, 0);
    expect(stored).toBeGreaterThan(size);

    const again = s3.requests.length;
    expect(await run(r)).toMatchObject({ items: [{ outcome: 'copied' }] });
    // the list of the parts
    expect(receivedSince(again)).toBeLessThan(1000);
    await expectArchived(image, 'resumed/v1.tar');
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: 'resumed/' }));
    expect(Uploads).toEqual([]);
  });

  test('recovers by itself from any transient fault', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'], layers: LAYERS, seed: 16 });
    await lab.push(image, ecr, 'troubled/app');
    s3.faults.add({ operation: 'CreateMultipartUpload' }, { kind: 'answer' });
    s3.faults.add({ operation: 'UploadPart' }, { kind: 'answer', status: 500, code: 'InternalError' });
    s3.faults.add({ operation: 'UploadPart', skip: 1 }, { kind: 'cut-request', afterBytes: 100_000 });
    s3.faults.add({ operation: 'UploadPart', skip: 2 }, { kind: 'lose-answer' });
    s3.faults.add({ operation: 'CompleteMultipartUpload' }, { kind: 'lose-answer' });
    ecr.faults.add({ operation: 'layer-get', skip: 1 }, { kind: 'cut-answer', afterBytes: 1_000_000 });
    const session = lab.session();
    const { items } = await run({ from: at(ecr, 'troubled/app'), to: `s3://${bucket}/troubled/{tag}.tar` }, session);
    expect(items).toMatchObject([{ outcome: 'copied' }]);
    expect([s3.faults.pending, ecr.faults.pending]).toEqual([0, 0]);
    expect(session.events.filter((event) => event.type === 'retry').length).toBeGreaterThanOrEqual(5);
    await expectArchived(image, 'troubled/v1.tar');
  });

  test('ends with ABORTED on a signal, shows nothing, and is resumed', async () => {
    const image = await makeImage({ platforms: ['linux/amd64'], layers: LAYERS, seed: 17 });
    await lab.push(image, registry, 'stopped/app');
    const r = { from: at(registry, 'stopped/app'), to: `s3://${bucket}/stopped/{tag}.tar` };
    const stop = new AbortController();
    const { backends, options } = lab.session();
    const stopping = backup(r, backends, {
      ...options,
      signal: stop.signal,
      report: (event) => {
        if (event.type === 'blob-progress') stop.abort();
      },
    });
    await failureOf(stopping, 'ABORTED');
    expect(await keysBelow('stopped/')).toEqual([]);
    await run(r);
    await expectArchived(image, 'stopped/v1.tar');
  });
});

describe('a key that holds something else', () => {
  test('is CONFLICT with advice, and loses nothing; --force replaces it', async () => {
    const image = await makeImage({ seed: 18 });
    await lab.push(image, registry, 'taken/app');
    const store = lab.session().backends.bucket(bucket);
    await store.write('taken/v1.tar', Buffer.from('the only copy of my thesis'));
    const r = { from: at(registry, 'taken/app'), to: `s3://${bucket}/taken/{tag}.tar` };
    const { items } = await run(r);
    expect(items).toMatchObject([{ outcome: 'failed', failure: { code: 'CONFLICT' } }]);
    expect(describeFailure(items[0]?.failure)).toMatch(
      new RegExp(
        `^target: s3://${bucket}/taken/v1\\.tar holds something that is not an archive .*--force to replace it$`,
      ),
    );
    expect(await textOf('taken/v1.tar')).toBe('the only copy of my thesis');
    expect(await run({ ...r, force: true })).toMatchObject({ items: [{ outcome: 'copied' }] });
    await expectArchived(image, 'taken/v1.tar');
  });

  test.each(['v1.tar', 'v1.tar.gz'])(
    'is CONFLICT when it holds the archive of another repository, named %s; --force replaces it',
    async (name) => {
      const [kept, other] = [await makeImage({ seed: 81 }), await makeImage({ seed: 82 })];
      await lab.push(kept, registry, 'kept/app');
      await lab.push(other, registry, 'other/svc');
      const to = `s3://${bucket}/one-place/${name}`;
      await run({ from: at(registry, 'kept/app:v1'), to });
      const before = await textOf(`one-place/${name}`);
      const { items } = await run({ from: at(registry, 'other/svc:v1'), to });
      expect(items).toMatchObject([{ outcome: 'failed', failure: { code: 'CONFLICT' } }]);
      const host = registry.registryHost;
      expect(describeFailure(items[0]?.failure)).toBe(
        `target: ${to} holds the archive of ${host}/kept/app:v1, which is not replaced by ${host}/other/svc:v1: give another key, or --force to replace it`,
      );
      await failureOf(lab.session().copy(at(registry, 'other/svc:v1'), to), 'CONFLICT');
      await failureOf(lab.session().copy(at(registry, 'other/svc:v1'), to, { dryRun: true }), 'CONFLICT');
      expect(await textOf(`one-place/${name}`)).toBe(before);
      expect(await run({ from: at(registry, 'other/svc:v1'), to, force: true })).toMatchObject({
        items: [{ outcome: 'copied' }],
      });
      expect(await textOf(`one-place/${name}`)).not.toBe(before);
    },
  );

  test('keeps the settings of the repository whose archive is not replaced', async () => {
    await lab.push(await makeImage({ seed: 83 }), ecr, 'settled/app');
    await lab.push(await makeImage({ seed: 84 }), ecr, 'settled/other');
    const to = `s3://${bucket}/settled/v1.tar`;
    await run({ from: at(ecr, 'settled/app:v1'), to });
    expect(await textOf('settled/repository.json')).toContain('"settled/app"');
    expect(await run({ from: at(ecr, 'settled/other:v1'), to })).toMatchObject({ items: [{ outcome: 'failed' }] });
    expect(await textOf('settled/repository.json')).toContain('"settled/app"');
  });

  test('is CONFLICT with --keep-existing when the tag was moved; without it the tag replaces its own archive', async () => {
    const r = { from: at(registry, 'moved/app'), to: `s3://${bucket}/moved-tag/{tag}.tar`, keepExisting: true };
    await lab.push(await makeImage({ seed: 85 }), registry, 'moved/app');
    expect(await run(r)).toMatchObject({ items: [{ outcome: 'copied' }] });
    expect(await run(r)).toMatchObject({ items: [{ outcome: 'unchanged' }] });
    await lab.push(await makeImage({ seed: 86 }), registry, 'moved/app');
    const { items } = await run(r);
    expect(items).toMatchObject([{ outcome: 'failed', failure: { code: 'CONFLICT' } }]);
    expect(describeFailure(items[0]?.failure)).toContain('/moved/app:v1 already, which --keep-existing keeps');
    expect(await run({ ...r, keepExisting: false })).toMatchObject({ items: [{ outcome: 'copied' }] });
  });

  test.each(['nothing', 'an older archive'])('is CONFLICT too when it replaces %s meanwhile', async (before) => {
    const key = `raced/${before.replaceAll(' ', '-')}/v1.tar`;
    const name = `raced/${before.replaceAll(' ', '-')}`;
    const r = { from: `${at(registry, name)}:v1`, to: `s3://${bucket}/${key}` };
    if (before !== 'nothing') {
      await lab.push(await makeImage({ seed: 26 }), registry, name);
      await run(r);
    }
    await lab.push(await makeImage({ seed: 19 }), registry, name);
    const { backends, options } = lab.session();
    const store = backends.bucket(bucket);
    // another program writes the key between the look at it and the commit
    const raced: ObjectStore = {
      describe: (to) => store.describe(to),
      stat: async (to, more) => store.stat(to, more),
      read: async (to, more) => store.read(to, more),
      write: async (to, body, more) => store.write(to, body, more),
      stream: async (to, body, more) => store.stream(to, body, more),
      list: (prefix, more) => store.list(prefix, more),
      upload: async (to, size, more) => {
        const upload = await store.upload(to, size, more);
        await store.write(key, Buffer.from('faster'));
        return upload;
      },
    };
    const { items } = await backup(r, { ...backends, bucket: () => raced }, options);
    expect(items).toMatchObject([{ outcome: 'failed', failure: { code: 'CONFLICT' } }]);
    expect(describeFailure(items[0]?.failure)).toContain(`s3://${bucket}/${key}`);
    expect(await textOf(key)).toBe('faster');
  });
});

describe('a backup of several images', () => {
  test('continues after a broken image, which is a failed item', async () => {
    const images = await Promise.all([20, 21, 22].map(async (seed) => makeImage({ seed, tag: `v${seed}` })));
    for (const image of images) await lab.push(image, registry, 'several/app');
    const [, broken] = images;
    const [blob] = broken === undefined ? [] : blobsOf(await walk(broken.content, [broken.root]));
    if (blob === undefined) throw new Error('the image has no blobs');
    registry.faults.add({ operation: 'blob-get', digest: blob.digest, times: 10 }, { kind: 'lie-digest' });
    const { items } = await run({ from: at(registry, 'several/app'), to: `s3://${bucket}/several/{tag}.tar` });
    registry.faults.clear();
    expect(items.map((item) => item.outcome)).toEqual(['copied', 'failed', 'copied']);
    expect(items[1]?.failure).toMatchObject({ code: 'CORRUPT' });
    expect(describeFailure(items[1]?.failure)).toContain(`${at(registry, 'several/app')}:v21: ${blob.digest}`);
    expect(await keysBelow('several/')).toEqual(['several/v20.tar', 'several/v22.tar']);
  });

  test('is INVALID before anything is written when two images would share a key', async () => {
    await lab.push(await makeImage({ seed: 23, tag: 'a' }), registry, 'collide/app');
    await lab.push(await makeImage({ seed: 23, tag: 'b' }), registry, 'collide/app');
    const before = s3.requests.length;
    const message = await sentenceOf(
      run({ from: at(registry, 'collide/app'), to: `s3://${bucket}/collide/{repository}.tar` }),
      'INVALID',
    );
    expect(message).toMatch(
      /collide\/collide\/app\.tar for more than one image: put \{repository\} and \{tag\} in it$/,
    );
    expect(s3.requests.slice(before)).toEqual([]);
  });

  test.each([
    ['ecr', 'nothing/like/*', /^source: .* has no repository that matches nothing\/like\/\*$/],
    ['ecr', 'nowhere/app', /^source: .*nowhere\/app/],
    ['registry', 'untagged/app:no-*', /^source: .*untagged\/app/],
  ] as const)('is NOT_FOUND when nothing matches (%s %s)', async (where, name, expected) => {
    const from = at(where === 'ecr' ? ecr : registry, name);
    const message = await sentenceOf(run({ from, to: `s3://${bucket}/none/` }), 'NOT_FOUND');
    expect(message).toMatch(expected);
  });
});

test('an archive that a backup wrote passes verify', async () => {
  const image = await makeImage({ signed: true, seed: 24 });
  await lab.push(image, ecr, 'verified/app');
  await run({ from: at(ecr, 'verified/app'), to: `s3://${bucket}/verified/` });
  const { backends, options } = lab.session();
  const results = await verify({ at: `s3://${bucket}/verified/` }, backends, options);
  expect(results).toMatchObject([{ digest: image.root.descriptor.digest, faults: [] }]);
  expect(results).toHaveLength(1);
});

test('backups of the same image are the same bytes, wherever they are and however they were written', async () => {
  const image = await makeImage({ signed: true, seed: 25 });
  await lab.push(image, registry, 'same/app');
  const folder = join(lab.folder, 'same');
  await run({ from: at(registry, 'same/app'), to: `s3://${bucket}/same/{tag}.tar` });
  await run({ from: at(registry, 'same/app'), to: `oci-archive:${folder}/{tag}.tar` });
  const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: 'same/v1.tar' }));
  const stored = Buffer.from((await Body?.transformToByteArray()) ?? []);
  expect(stored.equals(await readFile(join(folder, 'v1.tar')))).toBe(true);
});
