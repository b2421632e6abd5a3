// Input from users and registries that cannot work. Each ends in one sentence that names the side, the request and the remedy, and leaves
// nothing that is half visible.
import { readdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { digestOf } from '../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../worker/oci/manifest.ts';
import { backup } from '../../worker/images/backup.ts';
import { describeFailure, Failure, type Code } from '../../worker/util/failure.ts';
import { makeImage } from '../support/images.ts';
import { sentenceOf, openLab } from '../support/lab.ts';
import { makeTar, type TarFile } from '../support/tars.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, s3, bucket } = lab.stack;

const at = (where: LocalRegistry, name: string): string => `docker://${where.registryHost}/${name}`;

/** One sentence, in one line, for people; no stack, no secret. */
function expectSentence(message: string): void {
  expect(message).not.toMatch(/[\n\r]|\bat .*\.ts:\d+|X-Amz-|\[object/);
  expect(message.length).toBeLessThan(600);
}

async function refused(work: Promise<unknown>, code: Code): Promise<string> {
  const message = await sentenceOf(work, code);
  expectSentence(message);
  return message;
}

/** The plain registry has no tag of `name`. */
async function expectNothing(name: string): Promise<void> {
  const answer = await fetch(`${registry.url}/v2/${name}/tags/list`);
  const { tags } = (await answer.json()) as { readonly tags?: unknown };
  expect(tags ?? []).toEqual([]);
}

/** A registry that serves the given bodies of manifests and blobs by their path. */
async function rogueRegistry(bodies: Readonly<Record<string, string | Buffer>>): Promise<string> {
  const server = createServer((request, response) => {
    const body = bodies[request.url ?? ''];
    if (body === undefined) {
      response.writeHead(404).end();
      return;
    }
    const headers = {
      'content-type': request.url?.includes('/manifests/') === true ? MEDIA_TYPE.ociIndex : 'application/octet-stream',
      'content-length': Buffer.byteLength(body),
      'docker-content-digest': digestOf(Buffer.from(body)),
    };
    response.writeHead(200, headers).end(request.method === 'HEAD' ? undefined : body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const address = server.address();
  return `127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
}

describe('a name that cannot be', () => {
  test.each([
    ['docker://registry.test/Upper/app:v1', /"Upper" is not a component of a repository name; .* lower case/],
    ['registry.test/app:', /the tag "" may hold/],
    [`registry.test/app@sha256:${'0'.repeat(63)}`, /sha256/],
    [`registry.test/app@sha256:${'G'.repeat(64)}`, /sha256/],
    ['registry.test/app@md5:00', /"md5:00" is not a digest/],
    ['https://registry.test/app:v1', /https: is not one of docker:\/\/, s3:\/\/, oci-archive:/],
    ['ftp://registry.test/app', /ftp: is not one of/],
    ['s3://Bucket/key.tar', /expected s3:\/\/bucket\/key/],
    ['s3://bucket/', /an image in S3 has a key/],
    ['oci-archive:', /expected a path after the transport/],
    ['oci:folder:no tag', /"no tag" is not a tag/],
    ['', /image reference/],
  ])('%j is INVALID with the reason, before any request', async (name, why) => {
    const { copy } = lab.session();
    for (const copying of [async () => copy(name, at(ecr, 'x:v1')), async () => copy(at(ecr, 'x:v1'), name)]) {
      let message = '';
      try {
        await copying();
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        expect(error.code).toBe('INVALID');
        ({ message } = error);
      }
      expect(message).toMatch(why);
      expectSentence(message);
    }
  });

  test.each([
    ['docker://ann:hunter22@registry.test/app:v1', 'hunter22'],
    ['s3://ann:hunter22@bucket/x.tar', 'hunter22'],
    ['https://registry.test/app?X-Amz-Signature=hunter22', 'hunter22'],
  ])('%s is INVALID and its secret is not repeated', async (name, secret) => {
    const { copy } = lab.session();
    const message = await refused((async () => copy(name, at(ecr, 'x:v1')))(), 'INVALID');
    expect(message).not.toContain(secret);
  });

  test.each([
    [{ from: '*/app', to: 's3://bucket/' }, /a pattern names its registry/],
    [{ from: 'registry.test/a{b:v1', to: 's3://bucket/' }, /cannot match|not closed/],
    [{ from: 'registry.test/app:v1', to: 'registry.test/copy' }, /expected s3:\/\/bucket\/template or oci-archive/],
    [{ from: 'registry.test/app:v1', to: 's3://bucket/{tg}.tar' }, /\{tg\} is not one of \{regionName\}/],
    [{ from: 'registry.test/app:v1', to: 's3://bucket/{account}/{tag}.tar' }, /registry\.test is not ECR and has no/],
  ])('is INVALID in backups too: %j', async (r, why) => {
    const { backends, options } = lab.session();
    expect(await refused(backup(r, backends, options), 'INVALID')).toMatch(why);
  });
});

describe('a tag that the repository does not have', () => {
  test('is NOT_FOUND with the five nearest tags', async () => {
    for (const tag of ['v1.0', 'v1.1', 'v1.2', 'v2.0', 'v2.1', 'latest', 'nightly-2026-11-30'])
      await lab.push(await makeImage({ tag }), registry, 'tags/app');
    const message = await refused(
      lab.session().copy(at(registry, 'tags/app:v1.3'), at(registry, 'tags/to')),
      'NOT_FOUND',
    );
    expect(message).toBe(
      `source: read ${registry.registryHost}/tags/app:v1.3: there is no such tag; the nearest tags are v1.2, v1.1, v1.0, v2.1, v2.0`,
    );
  });

  test('is NOT_FOUND with all tags where these are few', async () => {
    await lab.push(await makeImage({ tag: 'stable' }), ecr, 'tags/few');
    const message = await refused(lab.session().copy(at(ecr, 'tags/few'), at(registry, 'tags/to')), 'NOT_FOUND');
    expect(message).toContain('tags/few:latest: there is no such tag; its tags are stable');
  });

  test('is NOT_FOUND with the name of the image where its repository does not exist either', async () => {
    const message = await refused(
      lab.session().copy(at(registry, 'tags/none:v1'), at(registry, 'tags/to')),
      'NOT_FOUND',
    );
    expect(message).toContain(`${registry.registryHost}/tags/none:v1`);
  });
});

describe('a manifest that cannot be', () => {
  const child = (body: string | Buffer): { digest: string; size: number; mediaType: string } => ({
    mediaType: MEDIA_TYPE.ociManifest,
    digest: digestOf(Buffer.from(body)),
    size: Buffer.byteLength(body),
  });
  const index = (...manifests: readonly object[]): string =>
    JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests });

  test.each<[string, string, Code, RegExp]>([
    ['is no JSON', 'this is no manifest', 'INVALID', /JSON/],
    ['is JSON, but no object', '[1, 2]', 'INVALID', /: /],
    ['names nothing', '{"schemaVersion":2}', 'INVALID', /manifests|layers|config/],
    ['names a child without a digest', index({ mediaType: MEDIA_TYPE.ociManifest, size: 3 }), 'INVALID', /digest/],
    [
      'names a child of a negative size',
      index({ mediaType: MEDIA_TYPE.ociManifest, size: -3, digest: digestOf(Buffer.from('')) }),
      'INVALID',
      /size/,
    ],
    [
      'names a child over 4 MiB',
      index({ mediaType: MEDIA_TYPE.ociManifest, size: 5_000_000, digest: digestOf(Buffer.from('')) }),
      'INVALID',
      /5000000 bytes/,
    ],
    ['names a child that is not there', index(child('absent')), 'NOT_FOUND', /404/],
  ])('is refused because it %s, with the name of its image', async (_, body, code, why) => {
    const digest = digestOf(Buffer.from(body));
    const host = await rogueRegistry({
      '/v2/rogue/app/manifests/v1': body,
      [`/v2/rogue/app/manifests/${digest}`]: body,
    });
    const message = await refused(lab.session().copy(`docker://${host}/rogue/app:v1`, at(registry, 'rogue/to')), code);
    expect(message).toMatch(/^source: /);
    expect(message).toContain(`${host}/rogue/app`);
    expect(message).toMatch(why);
    await expectNothing('rogue/to');
  });

  test('is refused because it is over 4 MiB itself, before it is read', async () => {
    const body = `${index()}${' '.repeat(4 * 1024 * 1024)}`;
    const digest = digestOf(Buffer.from(body));
    const host = await rogueRegistry({
      '/v2/rogue/app/manifests/v1': body,
      [`/v2/rogue/app/manifests/${digest}`]: body,
    });
    const message = await refused(
      lab.session().copy(`docker://${host}/rogue/app:v1`, at(registry, 'rogue/to')),
      'INVALID',
    );
    expect(message).toMatch(new RegExp(`^source: docker://${host}/rogue/app:v1: ${digest} has ${body.length} bytes`));
    await expectNothing('rogue/to');
  });

  test('is CORRUPT because a child does not match its digest', async () => {
    const body = index(child('right'));
    const host = await rogueRegistry({
      '/v2/rogue/app/manifests/v1': body,
      [`/v2/rogue/app/manifests/${digestOf(Buffer.from(body))}`]: body,
      [`/v2/rogue/app/manifests/${child('right').digest}`]: 'wrong',
    });
    const message = await refused(
      lab.session().copy(`docker://${host}/rogue/app:v1`, at(registry, 'rogue/to')),
      'CORRUPT',
    );
    expect(message).toMatch(/^source: .*\/rogue\/app/);
    await expectNothing('rogue/to');
  });
});

describe('an archive that cannot be', () => {
  const layout: TarFile = { name: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' };
  const empty: TarFile = { name: 'index.json', content: '{"schemaVersion":2,"manifests":[]}' };

  test.each<[string, () => Promise<Uint8Array>, RegExp]>([
    ['text', async () => Buffer.from('the only copy of my thesis'.repeat(100)), /:/],
    ['empty', async () => Buffer.alloc(0), /:/],
    ['zeros', async () => Buffer.alloc(10_240), /:/],
    ['with an absolute path', async () => makeTar([layout, empty, { name: '/etc/passwd', content: 'x' }]), /no image/],
    ['with a way out', async () => makeTar([layout, empty, { name: '../../x', content: 'x' }]), /no image/],
    [
      'with a link out of it',
      async () => makeTar([layout, { name: 'index.json', type: 'symlink', target: '../../etc/passwd' }]),
      /passwd|link|index\.json/,
    ],
    ['without an image', async () => makeTar([layout, empty]), /no image/],
    ['without an index', async () => makeTar([layout]), /index\.json/],
    [
      'with an index that is not JSON',
      async () => makeTar([layout, { name: 'index.json', content: '{' }]),
      /index\.json/,
    ],
    [
      'with PAX headers that cannot be',
      async () => {
        const tar = Buffer.from(await makeTar([layout, { name: `${'long/'.repeat(60)}x`, content: 'x' }, empty]));
        const pax = tar.indexOf('path=long/');
        tar.write('999999999 ', pax - 4, 'latin1');
        return tar;
      },
      /:/,
    ],
    ['cut off', async () => (await makeTar([layout, empty])).subarray(0, 600), /:/],
  ])('(%s) is refused with its name, from files and from S3', async (name, make, why) => {
    const bytes = await make();
    const key = `${name.replaceAll(/\W+/g, '-')}.tar`;
    await writeFile(join(lab.folder, key), bytes);
    await lab.session().backends.bucket(bucket).write(`bad/${key}`, bytes);
    for (const from of [`oci-archive:${join(lab.folder, key)}`, `s3://${bucket}/bad/${key}`]) {
      const failure = await lab
        .session()
        .copy(from, at(registry, 'bad/app:v1'))
        .then(
          () => expect.unreachable('it succeeded'),
          (error: unknown) => error,
        );
      if (!(failure instanceof Failure)) throw failure;
      expect(['INVALID', 'CORRUPT', 'UNSUPPORTED', 'NOT_FOUND']).toContain(failure.code);
      expectSentence(describeFailure(failure));
      expect(describeFailure(failure)).toMatch(/^source: /);
      expect(describeFailure(failure)).toContain(key);
      expect(describeFailure(failure)).toMatch(why);
    }
    await expectNothing('bad/app');
  });

  test('a folder that is not a layout, or does not exist, is named by its path', async () => {
    for (const folder of [lab.folder, join(lab.folder, 'absent')]) {
      const failure = await lab
        .session()
        .copy(`oci:${folder}`, at(registry, 'bad/app:v1'))
        .then(
          () => expect.unreachable('it succeeded'),
          (error: unknown) => error,
        );
      if (!(failure instanceof Failure)) throw failure;
      expect(describeFailure(failure)).toMatch(/^source: /);
      expect(describeFailure(failure)).toContain(folder);
      expectSentence(describeFailure(failure));
    }
  });
});

describe('S3 that does not let us', () => {
  test.each([
    ['HeadObject', 'GetObject', 's3:GetObject', 'source'],
    ['CreateMultipartUpload', 'PutObject', 's3:PutObject', 'target'],
  ] as const)('is DENIED and names the permission: %s', async (operation, other, action, side) => {
    const image = await makeImage({ seed: 1 });
    const name = `forbidden/${side}`;
    await lab.push(image, registry, name);
    const archive = `s3://${bucket}/${name}.tar`;
    if (side === 'source') await lab.session().copy(`${at(registry, name)}:v1`, archive);
    for (const refusedOperation of [operation, other])
      s3.faults.add({ operation: refusedOperation, times: 20 }, { kind: 'answer', status: 403, code: 'AccessDenied' });
    const copying =
      side === 'source'
        ? lab.session().copy(archive, at(registry, `${name}/to:v1`))
        : lab.session().copy(`${at(registry, name)}:v1`, archive);
    const message = await refused(copying, 'DENIED');
    s3.faults.clear();
    expect(message).toMatch(new RegExp(`^${side}: .*${archive}.*${action}`));
  });

  test('is UNAVAILABLE after enough tries when it is broken, and nothing is there', async () => {
    const image = await makeImage({ seed: 2 });
    await lab.push(image, registry, 'broken-s3/app');
    s3.faults.add({ operation: 'UploadPart', times: 200 }, { kind: 'answer', status: 500, code: 'InternalError' });
    const copying = lab.session().copy(`${at(registry, 'broken-s3/app')}:v1`, `s3://${bucket}/broken.tar`);
    const message = await refused(copying, 'UNAVAILABLE');
    s3.faults.clear();
    expect(message).toMatch(new RegExp(`^target: .*s3://${bucket}/broken\\.tar`));
    const { backends } = lab.session();
    expect(await Array.fromAsync(backends.bucket(bucket).list('broken.tar'))).toEqual([]);
  });
});

describe('what a failed copy leaves behind', () => {
  test('is not an archive, not a folder that resembles a layout, and not a temporary file that is mistaken for one', async () => {
    const image = await makeImage({ seed: 3 });
    await lab.push(image, registry, 'left/app');
    const folder = join(lab.folder, 'left');
    registry.faults.add({ operation: 'blob-get', times: 100 }, { kind: 'lie-digest' });
    for (const to of [
      `oci-archive:${folder}/app.tar`,
      `oci-archive:${folder}/app.tar.gz`,
      `oci:${folder}/layout`,
      `s3://${bucket}/left/app.tar`,
      `s3://${bucket}/left/app.tar.zst`,
    ]) {
      const message = await refused(lab.session().copy(`${at(registry, 'left/app')}:v1`, to), 'CORRUPT');
      expect(message).toMatch(/^source: /);
    }
    registry.faults.clear();
    expect((await readdir(folder)).filter((name) => name.startsWith('app'))).toEqual([]);
    expect(await Array.fromAsync(lab.session().backends.bucket(bucket).list('left/'))).toEqual([]);
    expect(await readdir(join(folder, 'layout')).catch(() => [])).not.toContain('index.json');
  });
});
