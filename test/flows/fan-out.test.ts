import { afterAll, describe, expect, test } from 'vitest';
import { openImage } from '../../worker/archive/reader.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { fanOut, type FanOutItem, type FanOutTarget } from '../../worker/images/fan-out.ts';
import { parseLocation } from '../../worker/oci/location.ts';
import { Failure } from '../../worker/util/failure.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { failureOf, openLab, requestsDuring, type Session } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, registry, bucket } = lab.stack;

const at = (where: LocalRegistry, name: string, tag = 'v1'): string => `docker://${where.registryHost}/${name}:${tag}`;

async function run(
  session: Session,
  from: string,
  to: readonly (string | (FanOutTarget & { readonly name: string }))[],
  more: { readonly platforms?: readonly string[] } = {},
): Promise<readonly FanOutItem<FanOutTarget>[]> {
  const targets = to.map((target) => (typeof target === 'string' ? { location: parseLocation(target) } : target));
  return Array.fromAsync(
    fanOut({ ...more, from: parseLocation(from), to: targets }, session.backends, session.options),
  );
}

/** One line for each: the outcome, or the code. */
const outcomesOf = (items: readonly FanOutItem<FanOutTarget>[]): readonly string[] =>
  items.map((item) => ('result' in item ? item.result.outcome : item.failure.code));

async function countsOf(image: MadeImage): Promise<{ readonly manifests: number; readonly blobs: number }> {
  const graph = await walk(image.content, [image.root]);
  return { manifests: graph.manifests.size, blobs: blobsOf(graph).length };
}

async function expectArchived(image: MadeImage, session: Session, key: string): Promise<void> {
  await using archived = await openImage(session.backends.bucket(bucket), key);
  await expectSameImage(image.content, archived, image.root);
}

describe('an image to several places', () => {
  test('is read once from its source, whatever the places are', async () => {
    const image = await makeImage({ signed: true });
    await lab.push(image, registry, 'once/app');
    const session = lab.session();
    const to = [at(otherEcr, 'once/far'), at(ecr, 'once/near'), `s3://${bucket}/once/app.tar`];
    const counts = await requestsDuring(registry, async () => {
      expect(outcomesOf(await run(session, at(registry, 'once/app'), to))).toEqual(['copied', 'copied', 'copied']);
    });
    const { manifests, blobs } = await countsOf(image);
    expect(counts).toMatchObject({ 'manifest-get': manifests, 'blob-get': blobs });
    await expectSameImage(image.content, lab.view(otherEcr, 'once/far'), image.root);
    await expectSameImage(image.content, lab.view(ecr, 'once/near'), image.root);
    await expectArchived(image, session, 'once/app.tar');
  });

  test('is read from its first place for the others if that is an archive', async () => {
    const image = await makeImage({ signed: true, seed: 2 });
    await lab.push(image, registry, 'archive-first/app');
    const to = [`s3://${bucket}/archive-first/app.tar`, at(ecr, 'archive-first/app')];
    const counts = await requestsDuring(registry, async () => {
      expect(outcomesOf(await run(lab.session(), at(registry, 'archive-first/app'), to))).toEqual(['copied', 'copied']);
    });
    expect(counts['blob-get']).toBe((await countsOf(image)).blobs);
    await expectSameImage(image.content, lab.view(ecr, 'archive-first/app'), image.root);
  });

  test('is read from the source again if its first place is a compressed archive', async () => {
    const image = await makeImage({ seed: 3 });
    await lab.push(image, registry, 'compressed/app');
    const to = [`s3://${bucket}/compressed/app.tar.gz`, at(ecr, 'compressed/app')];
    expect(outcomesOf(await run(lab.session(), at(registry, 'compressed/app'), to))).toEqual(['copied', 'copied']);
    await expectSameImage(image.content, lab.view(ecr, 'compressed/app'), image.root);
  });

  test('is mounted from the first place within one registry, and no byte is sent twice', async () => {
    const image = await makeImage({ seed: 4 });
    await lab.push(image, ecr, 'mounted/app');
    const to = ['one', 'two', 'three'].map((name) => at(registry, `mounted/${name}`));
    const items: FanOutItem<FanOutTarget>[] = [];
    const counts = await requestsDuring(registry, async () => {
      items.push(...(await run(lab.session(), at(ecr, 'mounted/app'), to)));
    });
    const { blobs } = await countsOf(image);
    const moved = items.map((item) => ('result' in item ? item.result.copied?.tallies : undefined));
    expect(moved.map((tallies) => tallies?.mounted.count)).toEqual([0, blobs, blobs]);
    expect(counts).not.toHaveProperty('blob-get');
    await expectSameImage(image.content, lab.view(registry, 'mounted/three'), image.root);
  });

  test('is the same image everywhere with platforms chosen, and its original index is reported', async () => {
    const image = await makeImage({ seed: 5 });
    await lab.push(image, registry, 'chosen/app');
    const items = await run(
      lab.session(),
      at(registry, 'chosen/app'),
      [at(ecr, 'chosen/app'), at(otherEcr, 'chosen/app')],
      {
        platforms: ['linux/arm64'],
      },
    );
    const [first, second] = items.map((item) => ('result' in item ? item.result : undefined));
    expect(first?.originalDigest).toBe(image.root.descriptor.digest);
    expect(second?.digest).toBe(first?.digest);
    const here = lab.view(ecr, 'chosen/app');
    await expectSameImage(here, lab.view(otherEcr, 'chosen/app'), {
      descriptor: await here.resolve('v1'),
      tags: ['v1'],
    });
  });

  test('costs its source a HEAD and the request for referrers where all places have it', async () => {
    const image = await makeImage({ signed: true, seed: 6 });
    await lab.push(image, registry, 'again/app');
    const to = [at(ecr, 'again/app'), at(otherEcr, 'again/app'), `s3://${bucket}/again/app.tar`];
    await run(lab.session(), at(registry, 'again/app'), to);
    const counts = await requestsDuring(registry, async () => {
      expect(outcomesOf(await run(lab.session(), at(registry, 'again/app'), to))).toEqual(Array(3).fill('unchanged'));
    });
    expect(counts).not.toHaveProperty('manifest-get');
    expect(counts).not.toHaveProperty('blob-get');
  });
});

describe('a place that fails', () => {
  test('does not stop the others, wherever it stands', async () => {
    const [before, image] = [await makeImage({ seed: 7 }), await makeImage({ seed: 8 })];
    await lab.push(image, registry, 'one-fails/app');
    await lab.push(before, registry, 'one-fails/before');
    const session = lab.session({ createSettings: { tagMutability: 'IMMUTABLE' } });
    await session.copy(at(registry, 'one-fails/before'), at(ecr, 'one-fails/immutable'));
    const to = [at(ecr, 'one-fails/immutable'), at(ecr, 'one-fails/app'), at(otherEcr, 'one-fails/app')];
    expect(outcomesOf(await run(session, at(registry, 'one-fails/app'), to))).toEqual(['CONFLICT', 'copied', 'copied']);
    await expectSameImage(before.content, lab.view(ecr, 'one-fails/immutable'), before.root);
    await expectSameImage(image.content, lab.view(otherEcr, 'one-fails/app'), image.root);
  });

  test('does not stop the others when it was aborted', async () => {
    const image = await makeImage({ seed: 9 });
    await lab.push(image, registry, 'stopped/app');
    const lost = new Failure('CONFLICT', 'the lease is lost');
    const stopped = {
      name: 'stopped',
      location: parseLocation(at(ecr, 'stopped/app')),
      signal: AbortSignal.abort(lost),
    };
    const items = await run(lab.session(), at(registry, 'stopped/app'), [stopped, at(otherEcr, 'stopped/app')]);
    expect(outcomesOf(items)).toEqual(['CONFLICT', 'copied']);
    expect(await Array.fromAsync(lab.view(ecr, 'stopped/app').tags()).catch(() => [])).toEqual([]);
  });

  test.each([
    ['has wrong bytes', { kind: 'lie-digest' }],
    ['does not give them', { kind: 'answer', status: 500 }],
    ['breaks off', { kind: 'cut-answer', afterBytes: 100 }],
  ] as const)('is replaced by the source when it is read again, because it %s', async (name, fault) => {
    const image = await makeImage({ seed: 10 });
    const where = `reread/${name.replaceAll(' ', '-')}`;
    await lab.push(image, registry, where);
    ecr.faults.add({ operation: 'layer-get', times: 20 }, fault);
    const to = [at(ecr, where), at(otherEcr, where)];
    expect(outcomesOf(await run(lab.session(), at(registry, where), to))).toEqual(['copied', 'copied']);
    expect(ecr.faults.pending).toBeLessThan(20);
    ecr.faults.clear();
    await expectSameImage(image.content, lab.view(otherEcr, where), image.root);
  });

  test('ends the whole copy when the source lacks the image', async () => {
    const to = [at(ecr, 'gone/app'), at(otherEcr, 'gone/app')];
    await failureOf(run(lab.session(), at(registry, 'gone/app'), to), 'NOT_FOUND');
  });
});
