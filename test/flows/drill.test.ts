// Drills: a backup is restored into scratch repositories and compared, and what was created is deleted.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { blobPath } from '../../worker/archive/plan.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { deleteScratch } from '../../worker/images/delete-scratch.ts';
import { drill, type DrillRequest } from '../../worker/images/drill.ts';
import { Failure } from '../../worker/util/failure.ts';
import { parseImageFilter } from '../../worker/oci/image-filter.ts';
import { parsePlace } from '../../worker/oci/place.ts';
import { alteringFront } from '../support/altering-front.ts';
import { backedUpToArchives, backedUpToStore } from '../support/backed-up.ts';
import { runCommand, type Ended } from '../support/command-line.ts';
import { makeImage } from '../support/images.ts';
import { failureOf, openLab, type Session } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { bucket, ecr, registry, environment } = lab.stack;

async function push(repository: string, tag: string, seed: number): Promise<void> {
  const image = await makeImage({ seed, platforms: ['linux/amd64', 'linux/arm64'], layers: [500], signed: true });
  await lab.push({ ...image, root: { ...image.root, tags: [tag] } }, ecr, repository);
}

/** A store with three images in two repositories. */
async function backedUp(name: string, to = `store:s3://${bucket}/${name}/`): Promise<string> {
  await push(`${name}/app`, 'v1', 1);
  await push(`${name}/app`, 'v2', 2);
  await push(`${name}/web`, 'v1', 3);
  const from = `${ecr.registryHost}/${name}/*`;
  if (to.startsWith('store:')) await backedUpToStore(from, to, lab.session());
  else await backedUpToArchives(from, to, lab.session());
  return to;
}

function requestOf(place: string, restoreTo: string, more: Partial<DrillRequest> = {}): DrillRequest {
  const parsed = parsePlace(place);
  assert(parsed.kind !== 'registry');
  return { place: parsed, restoreTo, id: 'abc', mark: 'run/job', ...more };
}

async function namesAt(prefix: string, where = ecr): Promise<readonly string[]> {
  return (await Array.fromAsync(lab.client(where).repositories(prefix))).toSorted();
}

async function clean(names: readonly string[], session: Session, mark = 'run/job', where = ecr) {
  const { backends, options } = session;
  return Promise.all(
    names.map(async (repository) =>
      deleteScratch({ registry: where.registryHost, repository }, (one) => one === mark, backends, options),
    ),
  );
}

describe('a drill', () => {
  test.each(['store', 'archives'])('restores a whole backup (%s) into ECR and finds it equal', async (kind) => {
    const name = `drilled-${kind}`;
    const to = await backedUp(name, kind === 'store' ? undefined : `s3://${bucket}/${name}/`);
    const session = lab.session();
    const request = requestOf(to, `${ecr.registryHost}/${name}-scratch`);
    const result = await drill(request, session.backends, session.options);
    expect(result).toMatchObject({ images: { checked: 3, of: 3 }, equal: 3, findings: [] });
    const scratch = await namesAt(`${name}-scratch/`);
    expect(scratch).toEqual([
      `${name}-scratch/transship-drill-abc/${name}/app`,
      `${name}-scratch/transship-drill-abc/${name}/web`,
    ]);
    // when the next worker repeats it, it sends nothing
    const again = await drill(request, session.backends, session.options);
    expect(again).toMatchObject({ equal: 3, bytesSent: 0, findings: [] });
    expect(await clean(scratch, session, 'another/drill')).toEqual(['kept', 'kept']);
    expect(await clean(scratch, session)).toEqual(['deleted', 'deleted']);
    expect(await namesAt(`${name}-scratch/`)).toEqual([]);
    expect(await clean(scratch, session)).toEqual(['gone', 'gone']);
    expect(await namesAt(`${name}/`)).toHaveLength(2);
  });

  test('marks repositories of other registries with an artifact, and deletes what they hold', async () => {
    const to = await backedUp('drilled-registry');
    const session = lab.session();
    const result = await drill(requestOf(to, `${registry.registryHost}/away`), session.backends, session.options);
    expect(result).toMatchObject({ images: { checked: 3, of: 3 }, equal: 3, findings: [] });
    const scratch = await namesAt('away/', registry);
    expect(scratch).toHaveLength(2);
    expect(await clean(scratch, session, 'another/drill', registry)).toEqual(['kept', 'kept']);
    expect(await clean(scratch, session, undefined, registry)).toEqual(['deleted', 'deleted']);
    expect(await clean(scratch, session, undefined, registry)).toEqual(['kept', 'kept']);
    for (const name of scratch) expect(await Array.fromAsync(lab.view(registry, name).tags({ all: true }))).toEqual([]);
  });

  test('names the image whose blob is damaged, and no other', async () => {
    const to = await backedUp('drilled-damaged');
    const image = await makeImage({ seed: 3, platforms: ['linux/amd64', 'linux/arm64'], layers: [500], signed: true });
    const [blob] = blobsOf(await walk(image.content, [image.root]));
    assert(blob);
    const session = lab.session();
    await session.backends.bucket(bucket).write(`drilled-damaged/${blobPath(blob.digest)}`, Buffer.alloc(blob.size, 7));
    const result = await drill(requestOf(to, `${ecr.registryHost}/damaged-scratch`), session.backends, session.options);
    expect(result).toMatchObject({ images: { checked: 3, of: 3 }, equal: 2 });
    expect(result.findings).toEqual([
      expect.objectContaining({ kind: 'faulty', at: expect.stringContaining('/drilled-damaged/web:v1') }),
    ]);
  });

  test('restores at least one image, and another part each time', async () => {
    const to = await backedUp('drilled-parts');
    const session = lab.session();
    const seen = new Set<string>();
    for (let slice = 0; slice < 20; slice++) {
      const request = requestOf(to, `${ecr.registryHost}/parts-scratch`, {
        id: `p${slice}`,
        sample: { slice, slices: 20 },
      });
      const result = await drill(request, session.backends, session.options);
      expect(result.images.checked).toBeGreaterThan(0);
      for (const name of await namesAt(`parts-scratch/transship-drill-p${slice}/`))
        for await (const { tags, digest } of lab.client(ecr).images?.(name) ?? [])
          if (tags.some((tag) => tag.startsWith('v'))) seen.add(digest);
    }
    expect(seen.size).toBe(3);
  });

  test('writes nothing to a repository that existed before', async () => {
    const to = await backedUp('drilled-existing');
    const session = lab.session();
    const name = 'taken/transship-drill-abc/drilled-existing/app';
    await lab.client(ecr).createRepository(name, { tags: { owner: 'another' } });
    await failureOf(drill(requestOf(to, `${ecr.registryHost}/taken`), session.backends, session.options), 'CONFLICT');
    expect(await Array.fromAsync(lab.client(ecr).images?.(name) ?? [])).toEqual([]);
    await push(name, 'mine', 9);
    expect(await clean([name], session)).toEqual(['kept']);
    const away = name.replace('taken', 'taken-away');
    const image = await makeImage({ seed: 9, platforms: ['linux/amd64'], layers: [500] });
    await lab.push(image, registry, away);
    await failureOf(
      drill(requestOf(to, `${registry.registryHost}/taken-away`), session.backends, session.options),
      'CONFLICT',
    );
  });

  test('refuses a registry without a prefix, and a place without an image', async () => {
    const to = await backedUp('drilled-refused');
    const { backends, options } = lab.session();
    await failureOf(drill(requestOf(to, ecr.registryHost), backends, options), 'INVALID');
    const request = requestOf(to, `${ecr.registryHost}/none`, { only: [parseImageFilter('no/such')] });
    await failureOf(drill(request, backends, options), 'NOT_FOUND');
  });
});

describe('verify --restore-to', () => {
  const env = { ...environment, HOME: lab.folder };
  const run = async (...args: readonly string[]): Promise<Ended> => runCommand(['verify', ...args, '-q'], { env });

  test('restores, compares, and deletes what it created', async () => {
    const folder = `store:${join(lab.folder, 'typed-drill')}`;
    await backedUp('typed-drill', folder);
    for (const where of [ecr, registry]) {
      const { code, stdout, stderr } = await run(folder, '--restore-to', `${where.registryHost}/typed-scratch`);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toMatch(/^restorable store:.*: 3 of 3 images tried in .*typed-scratch, 3 restored and equal/m);
    }
    expect(await namesAt('typed-scratch/')).toEqual([]);
    const part = await run(folder, '--restore-to', `${ecr.registryHost}/typed-scratch`, '--sample', '3/20', '--json');
    expect(JSON.parse(part.stdout)).toMatchObject({ sample: { slice: 2, slices: 20 }, findings: [], leftovers: [] });
    expect(await namesAt('typed-scratch/')).toEqual([]);
  });

  test('names a scratch repository that it could not delete because its mark does not show, and exits 1', async () => {
    const folder = `store:${join(lab.folder, 'unmarked')}`;
    await backedUp('unmarked', folder);
    const host = await alteringFront(registry.url, (line, answer) =>
      line.endsWith('/manifests/transship-drill-mark') && !line.startsWith('PUT')
        ? { status: 404, headers: {}, body: Buffer.alloc(0) }
        : answer,
    );
    const { code, stdout } = await run(folder, '--restore-to', `${host}/unmarked-scratch`);
    expect(stdout).toMatch(/^left: .*unmarked-scratch\/transship-drill-\w+\/unmarked\/app was not deleted/m);
    expect(code).toBe(1);
  });

  test('exits 3 for an image that cannot be restored, and still deletes what it created', async () => {
    const to = await backedUp('typed-faulty');
    const image = await makeImage({ seed: 3, platforms: ['linux/amd64', 'linux/arm64'], layers: [500], signed: true });
    const [blob] = blobsOf(await walk(image.content, [image.root]));
    assert(blob);
    await lab
      .session()
      .backends.bucket(bucket)
      .write(`typed-faulty/${blobPath(blob.digest)}`, Buffer.alloc(blob.size));
    const { code, stdout } = await run(to, '--restore-to', `${ecr.registryHost}/faulty-scratch`);
    expect(code).toBe(3);
    expect(stdout).toMatch(/^faulty: .*typed-faulty\/web:v1: it cannot be restored: /m);
    expect(stdout).toMatch(/^FAULTY store:/m);
    expect(await namesAt('faulty-scratch/')).toEqual([]);
  });

  test('leaves a record with --record, and the report shows when each repository was verified and restored', async () => {
    const folder = join(lab.folder, 'recorded');
    await backedUp('recorded', `store:${folder}`);
    const verified = await run(`store:${folder}`, '--depth', 'bytes', '--record');
    expect(verified.code).toBe(0);
    const drilled = await run(`store:${folder}`, '--restore-to', `${ecr.registryHost}/recorded-scratch`, '--record');
    expect(drilled.code).toBe(0);
    const page = join(lab.folder, 'recorded.html');
    const report = await runCommand(['report', `store:${folder}`, '--html', page, '--json', '-q'], { env });
    expect(JSON.parse(report.stdout)).toMatchObject({
      proofs: [
        {
          kind: 'drill',
          names: { checked: 3, of: 3 },
          findings: 0,
          restoredTo: `${ecr.registryHost}/recorded-scratch`,
        },
        { kind: 'verification', depth: 'bytes', findings: 0 },
      ],
      repositories: [
        { name: 'recorded/app', verifiedAt: expect.any(String), restoredAt: expect.any(String) },
        { name: 'recorded/web', verifiedAt: expect.any(String), restoredAt: expect.any(String) },
      ],
    });
    expect(await readFile(page, 'utf8')).toContain(`restored to ${ecr.registryHost}/recorded-scratch`);
    // the records do not belong to the store
    expect((await run(`store:${folder}`, '--depth', 'bytes')).stdout).toMatch(/^whole store:/m);
    const wrong = await run(`${ecr.registryHost}/recorded/*`, '--record');
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('is a registry') });
  });

  test.each([1, 5, 12, 20])(
    'deletes what it created when it is stopped, and exits 130: after event %i',
    async (stopAt) => {
      const name = `stopped-${stopAt}`;
      const folder = `store:${join(lab.folder, name)}`;
      await backedUp(name, folder);
      const stop = new AbortController();
      let events = 0;
      const onStderr = (text: string): void => {
        if (!/"type":"(?:blob|manifest)-done"/.test(text) || ++events < stopAt) return;
        stop.abort(new Failure('ABORTED', 'stopped by SIGTERM'));
      };
      const scratch = `${ecr.registryHost}/${name}-scratch`;
      const args = ['verify', folder, '--restore-to', scratch, '--json'];
      const { code } = await runCommand(args, { env, stop: stop.signal, onStderr });
      expect(code).toBe(130);
      expect(await namesAt(`${name}-scratch/`)).toEqual([]);
    },
  );

  test('refuses flags that a drill does not have, and a registry', async () => {
    const store = `store:s3://${bucket}/any/`;
    const deep = await run(store, '--restore-to', `${ecr.registryHost}/x`, '--deep');
    expect(deep.code).toBe(2);
    const place = await run(`${ecr.registryHost}/any/*`, '--restore-to', `${ecr.registryHost}/x`);
    expect(place).toMatchObject({ code: 2, stderr: expect.stringContaining('is a registry') });
    const bare = await run(store, '--restore-to', ecr.registryHost);
    expect(bare).toMatchObject({ code: 2, stderr: expect.stringContaining('names no prefix') });
  });
});
