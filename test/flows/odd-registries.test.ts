// Registries that deviate where a digest proves the content anyway.
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { inspect } from '../../worker/images/inspect.ts';
import { verify } from '../../worker/images/verify.ts';
import { digestOf } from '../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../worker/oci/manifest.ts';
import { commandLine } from '../support/command-line.ts';
import { alteringFront, type FrontAnswer } from '../support/altering-front.ts';
import { makeImage } from '../support/images.ts';
import { failureOf, openLab } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';

const lab = await openLab();
const { ecr, registry, bucket } = lab.stack;
afterAll(async () => lab[Symbol.asyncDispose]());

const refused = (status: number): FrontAnswer => ({
  status,
  headers: { 'content-type': 'application/json' },
  body: Buffer.from('{"errors":[{"code":"DENIED","message":"no"}]}'),
});

describe('a registry that sends manifests with the wrong Content-Type', () => {
  const mislabelling = async (): Promise<string> =>
    alteringFront(registry.url, (line, answer) =>
      line.includes('/manifests/') && answer.status === 200
        ? { ...answer, headers: { ...answer.headers, 'content-type': MEDIA_TYPE.dockerManifest } }
        : answer,
    );

  test.each([[['linux/amd64']], [['linux/amd64', 'linux/arm64']]])(
    'is copied from, with the media type in the bytes of its image for %j',
    async (platforms) => {
      const image = await makeImage({ seed: 81, platforms });
      const name = `mislabelled/of-${platforms.length}`;
      await lab.push(image, registry, name);
      const from = `docker://${await mislabelling()}/${name}:v1`;
      const session = lab.session();
      await session.copy(from, `docker://${ecr.registryHost}/${name}:v1`);
      await expectSameImage(image.content, lab.view(ecr, name), image.root);
      await session.copy(from, `oci-archive:${join(lab.folder, name)}.tar`);
      await session.copy(from, `oci:${join(lab.folder, name)}`);
      const { backends, options } = session;
      expect((await inspect(from, backends, options)).mediaType).toBe(image.root.descriptor.mediaType);
      expect(await verify({ at: `oci-archive:${join(lab.folder, name)}.tar` }, backends, options)).toMatchObject([
        { faults: [] },
      ]);
    },
  );

  test('serves the chosen platforms', async () => {
    const image = await makeImage({ seed: 82, platforms: ['linux/amd64', 'linux/arm64'] });
    await lab.push(image, registry, 'mislabelled/chosen');
    const from = `docker://${await mislabelling()}/mislabelled/chosen:v1`;
    const to = `docker://${ecr.registryHost}/mislabelled/chosen:v1`;
    expect(await lab.session().copy(from, to, { platforms: ['linux/arm64'] })).toMatchObject({ outcome: 'copied' });
  });
});

test('a bare 400 for a blob does not suggest rebuilding the image', async () => {
  await lab.push(await makeImage({ seed: 90 }), registry, 'refused/blob');
  const front = await alteringFront(registry.url, (line, answer) =>
    line.startsWith('GET ') && line.includes('/blobs/') ? { status: 400, headers: {}, body: Buffer.alloc(0) } : answer,
  );
  const from = `docker://${front}/refused/blob:v1`;
  const failure = await failureOf(
    lab.session().copy(from, `oci-archive:${join(lab.folder, 'refused.tar')}`),
    'INVALID',
  );
  expect(failure.message).toMatch(/the registry answered 400$/);
});

test('an image that is broken at its source is a failure, not wrong usage: exit code 1', async () => {
  const body = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociManifest, config: {} }));
  const headers = { 'content-type': MEDIA_TYPE.ociManifest, 'docker-content-digest': digestOf(body) };
  const host = await alteringFront(registry.url, (line, answer) =>
    line.includes('/manifests/') ? { status: 200, headers, body } : answer,
  );
  const transship = commandLine(lab.stack.environment);
  const ended = await transship('copy', `docker://${host}/broken/app:v1`, `oci:${join(lab.folder, 'broken')}`);
  expect(ended).toMatchObject({ code: 1, stderr: expect.stringContaining('rebuild it') });
});

describe('a registry behind a proxy that compresses documents and answers HEAD without a length', () => {
  test('is copied from, configs too, layers untouched', async () => {
    const image = await makeImage({ seed: 83 });
    await lab.push(image, registry, 'compressed/app');
    const host = await alteringFront(registry.url, (line, answer) => {
      if (answer.status !== 200 || (line.includes('/blobs/') && !answer.body.toString('latin1').startsWith('{')))
        return answer;
      if (line.startsWith('HEAD')) return { ...answer, headers: { ...answer.headers, 'content-length': '0' } };
      return {
        ...answer,
        headers: { ...answer.headers, 'content-encoding': 'gzip' },
        body: gzipSync(answer.body),
      };
    });
    await lab.session().copy(`docker://${host}/compressed/app:v1`, `docker://${ecr.registryHost}/compressed/app:v1`);
    await expectSameImage(image.content, lab.view(ecr, 'compressed/app'), image.root);
  });
});

describe('a registry that refuses to list referrers', () => {
  test.each([401, 403])('with %i is copied from, with one warning', async (status) => {
    const image = await makeImage({ seed: 84, platforms: ['linux/amd64', 'linux/arm64'] });
    const name = `refusing/with-${status}`;
    await lab.push(image, registry, name);
    const host = await alteringFront(registry.url, (line, answer) =>
      line.includes('/referrers/') ? refused(status) : answer,
    );
    const { copy, events } = lab.session();
    const copied = await copy(`docker://${host}/${name}:v1`, `docker://${ecr.registryHost}/${name}:v1`);
    expect(copied.unchecked).toEqual([expect.stringContaining('not all that may refer to it was listed')]);
    await expectSameImage(image.content, lab.view(ecr, name), image.root);
    expect(events.filter((event) => event.type === 'warning')).toEqual([
      {
        type: 'warning',
        side: 'source',
        message: expect.stringMatching(new RegExp(`${status} DENIED.*--no-referrers`)),
      },
    ]);
  });

  test.each([
    ['the list', (line: string) => line.includes('/referrers/')],
    ['the tags of cosign', (line: string) => /\/manifests\/sha256-[0-9a-f]{64}\.sig$/.test(line)],
  ])('keeps its images, and those compared with them, from being whole: refuses %s', async (_, isRefused) => {
    const image = await makeImage({ seed: 87, signed: true, layers: [2000] });
    await lab.push(image, registry, 'refusing/signed');
    const host = await alteringFront(registry.url, (line, answer) => (isRefused(line) ? refused(403) : answer));
    const { backends, options, copy } = lab.session();
    const at = `docker://${host}/refusing/signed:v1`;
    const archive = `s3://${bucket}/refusing/signed-${host.replace(':', '-')}.tar`;
    const unchecked = [expect.stringMatching(/not all that may refer to it was listed: .* 403 DENIED/)];
    expect(await verify({ at, depth: 'bytes' }, backends, options)).toMatchObject([
      { faults: [], complete: false, unchecked },
    ]);
    expect((await copy(at, archive)).unchecked).toEqual(unchecked);
    const written = expect.stringContaining('when the archive was written, its source did not list all');
    expect(await verify({ at: archive, against: at }, backends, options)).toMatchObject([
      { faults: [], complete: false, unchecked: [written, ...unchecked] },
    ]);
  });

  test.each(['tar', 'tar.gz'])('is remembered in a .%s until it lists them', async (form) => {
    await lab.push(await makeImage({ seed: 88, layers: [2000] }), registry, 'refusing/once');
    let refuses = true;
    const host = await alteringFront(registry.url, (line, answer) =>
      refuses && line.includes('/referrers/') ? refused(403) : answer,
    );
    const [at, archive] = [`docker://${host}/refusing/once:v1`, `s3://${bucket}/refusing/once.${form}`];
    const copied = async (): Promise<readonly unknown[]> => {
      const { backends, options, copy } = lab.session();
      const { outcome } = await copy(at, archive);
      const [verified] = await verify({ at: archive }, backends, options);
      return [outcome, verified?.complete, verified?.faults];
    };
    expect(await copied()).toEqual(['copied', false, []]);
    expect(await copied()).toEqual(['unchanged', false, []]);
    refuses = false;
    expect(await copied()).toEqual(['copied', true, []]);
    expect(await copied()).toEqual(['unchanged', true, []]);
  });

  test('fails when it refuses manifests too', async () => {
    const image = await makeImage({ seed: 85 });
    await lab.push(image, registry, 'refusing/all');
    const host = await alteringFront(registry.url, (line, answer) =>
      line.includes('/referrers/') || line.startsWith('HEAD /v2/refusing/all/manifests/sha256:')
        ? refused(403)
        : answer,
    );
    const copied = lab
      .session()
      .copy(`docker://${host}/refusing/all:v1`, `docker://${ecr.registryHost}/refusing/all:v1`);
    expect((await failureOf(copied, 'DENIED')).message).toContain('list referrers of');
  });
});

describe('a target that answers 403 for manifests that it does not have', () => {
  test('is pushed to: the push decides', async () => {
    const image = await makeImage({ seed: 86, platforms: ['linux/amd64', 'linux/arm64'] });
    await lab.push(image, ecr, 'denying/source');
    const host = await alteringFront(registry.url, (line, answer) =>
      /^(?:HEAD|GET) .*\/manifests\//.test(line) && answer.status === 404 ? refused(403) : answer,
    );
    await lab.session().copy(`docker://${ecr.registryHost}/denying/source:v1`, `docker://${host}/denying/target:v1`);
    await expectSameImage(image.content, lab.view(registry, 'denying/target'), image.root);
  });
});

describe('a registry whose list of tags does not show the tag of a signature', () => {
  const listing = async (tags: (url: string) => FrontAnswer | readonly string[]): Promise<string> =>
    alteringFront(registry.url, (line, answer) => {
      if (!line.includes('/tags/list')) return answer;
      const listed = tags(line);
      return 'status' in listed
        ? listed
        : {
            ...answer,
            headers: { 'content-type': 'application/json' },
            body: Buffer.from(JSON.stringify({ tags: listed })),
          };
    });
  const listOf = (tags: readonly string[]): FrontAnswer => ({
    status: 200,
    headers: {},
    body: Buffer.from(JSON.stringify({ tags })),
  });
  const old = Array.from({ length: 50 }, (_, at) => `v${at}`);

  test.each<[string, string, (url: string) => FrontAnswer | readonly string[]]>([
    ['because it sends the same first page for every request', ':v1', () => old],
    ['because it refuses the page that follows', ':v1', (url) => (url.includes('last=') ? refused(404) : old)],
    ['because it lists nothing, of an image by its digest', '@', () => []],
    ['because it does not answer', ':v1', () => refused(504)],
    [
      'because its second page does not exist',
      ':v1',
      (url) => (url.includes('page=2') ? refused(404) : { ...listOf(old), headers: { link: '<?page=2>; rel="next"' } }),
    ],
  ])('is asked for that tag: %s', async (why, by, tags) => {
    const image = await makeImage({ seed: 83, platforms: ['linux/amd64'], signed: true });
    const name = `unlisted/${why.replaceAll(/[^a-z]+/g, '-')}`;
    await lab.push(image, registry, name);
    const from = `docker://${await listing(tags)}/${name}${by === '@' ? `@${image.root.descriptor.digest}` : by}`;
    await lab.session().copy(from, `docker://${ecr.registryHost}/${name}:v1`);
    await expectSameImage(image.content, lab.view(ecr, name), image.root);
  });
});
