// Restores of broken backups, and into targets that are not empty.
import { afterAll, describe, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import type { Descriptor } from '../../worker/oci/manifest.ts';
import { backup } from '../../worker/images/backup.ts';
import { restoreSnapshot, type SnapshotRestoreRequest } from '../../worker/images/restore-snapshot.ts';
import { openSnapshots } from '../../worker/store/snapshots.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { openLab, sentenceOf } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';
import { backedUpToArchives, backedUpToStore } from '../support/backed-up.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, registry, bucket } = lab.stack;

const at = (where: LocalRegistry, name: string): string => `docker://${where.registryHost}/${name}`;
const small = async (seed: number, tag = 'v1'): Promise<MadeImage> =>
  makeImage({ seed, tag, platforms: ['linux/amd64'], layers: [2000], sharedLayerBytes: 0 });

async function run(
  request: Omit<SnapshotRestoreRequest, 'to'> & { readonly to?: string },
): ReturnType<typeof restoreSnapshot> {
  const { backends, options } = lab.session();
  return restoreSnapshot({ to: `docker://${otherEcr.registryHost}`, ...request }, backends, options);
}

async function contentOf({ content, root }: MadeImage): Promise<readonly Descriptor[]> {
  const graph = await walk(content, [root]);
  return [...[...graph.manifests.values()].map(({ descriptor }) => descriptor), ...blobsOf(graph)];
}

const objects = (): ReturnType<ReturnType<typeof lab.session>['backends']['bucket']> =>
  lab.session().backends.bucket(bucket);

async function deleteObject(key: string): Promise<void> {
  const { etag } = await objects().stat(key);
  await lab.session().backends.deletions.bucket(bucket).remove([{ key, etag }]);
}

describe('a restore from archives of which a snapshot', () => {
  test('lists all restores them, and the settings in the snapshot', async () => {
    const settings = { tagMutability: 'IMMUTABLE', tags: { team: 'web' } };
    const { backends, options } = lab.session();
    await backends.registry(ecr.registryHost, 'target').applySettings('listed/app', settings, options);
    const images = [await makeImage({ seed: 1, signed: true }), await small(2, 'v2')];
    for (const image of images) await lab.push(image, ecr, 'listed/app');
    await backedUpToArchives(at(ecr, 'listed/*'), `s3://${bucket}/listed/`, lab.session());
    const result = await run({ from: `s3://${bucket}/listed/`, snapshot: 'latest' });
    expect(result).toMatchObject({
      failures: [],
      faults: [],
      repositories: [{ comparison: { equal: 2, differences: [] } }],
    });
    for (const image of images) await expectSameImage(image.content, lab.view(otherEcr, 'listed/app'), image.root);
    expect(await backends.registry(otherEcr.registryHost, 'target').settings('listed/app', options)).toMatchObject(
      settings,
    );
  });

  test('names one that was replaced reads the version that it names', async () => {
    const [image, other] = [await small(3), await small(4)];
    await lab.push(image, ecr, 'replaced/app');
    await backedUpToArchives(at(ecr, 'replaced/app'), `s3://${bucket}/replaced/`, lab.session());
    await lab.push(other, ecr, 'replaced/app');
    const { backends, options } = lab.session();
    await backup({ from: at(ecr, 'replaced/app'), to: `s3://${bucket}/replaced/` }, backends, options);
    const result = await run({ from: `s3://${bucket}/replaced/`, snapshot: 'latest' });
    expect(result).toMatchObject({ failures: [], repositories: [{ copied: 1, comparison: { equal: 1 } }] });
    await expectSameImage(image.content, lab.view(otherEcr, 'replaced/app'), image.root);
  });

  test.each([
    [
      'is gone',
      'NOT_FOUND',
      /gone\/.*v1\.tar was deleted since the snapshot, which names it/,
      async (key: string) => deleteObject(key),
    ],
    [
      'is of another image',
      'CONFLICT',
      /was changed since the snapshot: it holds sha256:[0-9a-f]{64}, not sha256:[0-9a-f]{64}/,
      async (key: string) => {
        const body = [];
        for await (const chunk of await objects().read(key.replace('v1', 'v2'))) body.push(Uint8Array.from(chunk));
        await objects().write(key, Buffer.concat(body));
      },
    ],
    [
      'is not an archive',
      'INVALID',
      /it is empty, not an archive of an image/,
      async (key: string) => objects().write(key, new Uint8Array()),
    ],
  ] as const)('names one that %s reports it, and restores the others', async (what, code, reason, damage) => {
    const name = `damaged-${code.toLowerCase()}/gone`;
    const images = [await small(5), await small(6, 'v2')];
    for (const image of images) await lab.push(image, ecr, name);
    const prefix = `${code}/gone/`;
    // a bucket without versions
    const withoutVersions = (
      snapshot: Parameters<NonNullable<Parameters<typeof backedUpToArchives>[3]>>[0],
    ): typeof snapshot => ({
      ...snapshot,
      repositories: snapshot.repositories.map((repository) => ({
        ...repository,
        images: repository.images.map((image) => ({
          ...image,
          archives: (image.archives ?? []).map(({ tag = '', key, size, etag }) => ({ tag, key, size, etag })),
        })),
      })),
    });
    await backedUpToArchives(at(ecr, name), `s3://${bucket}/${prefix}`, lab.session(), withoutVersions);
    await damage(`${prefix}us-east-1/${name}/v1.tar`);
    const result = await run({ from: `s3://${bucket}/${prefix}`, snapshot: 'latest' });
    expect(result.failures, what).toMatchObject([{ tag: 'v1', code, reason: expect.stringMatching(reason) }]);
    expect(result.repositories).toMatchObject([{ copied: 1, failed: 1, comparison: { equal: 1 } }]);
    expect(result.repositories[0]?.comparison?.differences).toMatchObject([
      { kind: 'missing', tag: 'v1' },
      { kind: 'missing' },
    ]);
    const [, whole] = images;
    if (whole === undefined) throw new Error('there are two images');
    await expectSameImage(whole.content, lab.view(otherEcr, name), whole.root);
  });
});

describe('a restore from a store', () => {
  test('reports an image whose blob is lost, and restores the others', async () => {
    const images = [await small(7), await small(8, 'v2')];
    for (const image of images) await lab.push(image, ecr, 'lost/app');
    await backedUpToStore(at(ecr, 'lost/*'), `store:s3://${bucket}/lost`, lab.session());
    const [broken, whole] = images;
    if (broken === undefined || whole === undefined) throw new Error('there are two images');
    const layer = (await contentOf(broken)).find(({ mediaType }) => mediaType.includes('layer'));
    await deleteObject(`lost/blobs/${layer?.digest.replace(':', '/')}`);
    const result = await run({ from: `store:s3://${bucket}/lost` });
    expect(result.failures).toMatchObject([
      {
        repository: `${ecr.registryHost}/lost/app`,
        tag: 'v1',
        code: 'NOT_FOUND',
        reason: expect.stringContaining(layer?.digest ?? ''),
      },
    ]);
    expect(result.repositories).toMatchObject([{ failed: 1, copied: 1, comparison: { equal: 1 } }]);
    await expectSameImage(whole.content, lab.view(otherEcr, 'lost/app'), whole.root);
    expect(await Array.fromAsync(lab.view(otherEcr, 'lost/app').tags())).toEqual(['v2']);
  });

  test('fails before it touches the target when its snapshot was edited', async () => {
    await lab.push(await small(9), ecr, 'edited/app');
    await backedUpToStore(at(ecr, 'edited/*'), `store:s3://${bucket}/edited`, lab.session());
    const [name] = await openSnapshots({ store: objects(), prefix: 'edited/' }).list();
    const { zstdCompressSync } = await import('node:zlib');
    await objects().write(name?.key ?? '', zstdCompressSync(Buffer.from('{"version":1}')));
    expect(await sentenceOf(run({ from: `store:s3://${bucket}/edited` }), 'CORRUPT')).toMatch(/edited\/snapshots\//);
  });

  test('of a newer format, without snapshots, or without the requested registry names the next step', async () => {
    await objects().write('newer/transship-store.json', Buffer.from('{"format":"transship-store","version":9}'));
    expect(await sentenceOf(run({ from: `store:s3://${bucket}/newer` }), 'UNSUPPORTED')).toMatch(/newer/i);
    expect(await sentenceOf(run({ from: `store:s3://${bucket}/nowhere` }), 'NOT_FOUND')).toContain(
      'there is no store at',
    );
    expect(await sentenceOf(run({ from: `s3://${bucket}/nowhere/`, snapshot: 'latest' }), 'NOT_FOUND')).toContain(
      'snapshot',
    );
    expect(await sentenceOf(run({ from: `s3://${bucket}/nowhere/`, asOfMs: 0 }), 'NOT_FOUND')).toContain('1970-01-01');
    expect(await sentenceOf(run({ from: ecr.registryHost }), 'INVALID')).toContain('is a registry');
  });
});

describe('a tag that stands for another image at the target', () => {
  const backedUp = async (name: string): Promise<{ from: string; ours: MadeImage; theirs: MadeImage }> => {
    const [ours, theirs] = [await small(20), await small(21)];
    await lab.push(ours, ecr, name);
    await lab.push(await small(22, 'v2'), ecr, name);
    const from = `store:s3://${bucket}/${name}`;
    await backedUpToStore(at(ecr, name), from, lab.session());
    return { from, ours, theirs };
  };

  test('stays, and is a failure, while the others are restored', async () => {
    const { from, theirs } = await backedUp('taken/error');
    await lab.push(theirs, otherEcr, 'taken/error');
    const result = await run({ from });
    expect(result.failures).toMatchObject([
      { tag: 'v1', code: 'CONFLICT', reason: expect.stringContaining('--on-existing') },
    ]);
    expect(result.repositories).toMatchObject([{ copied: 1, failed: 1, comparison: { equal: 1 } }]);
    const view = lab.view(otherEcr, 'taken/error');
    expect((await view.resolve('v1')).digest).toBe(theirs.root.descriptor.digest);
  });

  test('stays with skip, and is a difference', async () => {
    const { from, theirs } = await backedUp('taken/skip');
    await lab.push(theirs, registry, 'taken/skip');
    const result = await run({ from, onExisting: 'skip', to: `docker://${registry.registryHost}` });
    expect(result).toMatchObject({ failures: [], repositories: [{ copied: 1, kept: 1, comparison: { equal: 1 } }] });
    expect(result.repositories[0]?.comparison?.differences).toMatchObject([
      { kind: 'different', tag: 'v1', found: theirs.root.descriptor.digest },
      { kind: 'missing' },
    ]);
  });

  test('is moved with overwrite', async () => {
    const { from, ours, theirs } = await backedUp('taken/overwrite');
    await lab.push(theirs, otherEcr, 'taken/overwrite');
    const result = await run({ from, onExisting: 'overwrite' });
    expect(result).toMatchObject({ failures: [], repositories: [{ copied: 2, comparison: { equal: 2 } }] });
    await expectSameImage(ours.content, lab.view(otherEcr, 'taken/overwrite'), ours.root);
  });

  test('cannot be moved when it is immutable, which is reported', async () => {
    const { from, theirs } = await backedUp('taken/immutable');
    const { backends, options } = lab.session();
    await backends
      .registry(otherEcr.registryHost, 'target')
      .createRepository('taken/immutable', { tagMutability: 'IMMUTABLE' }, options);
    await lab.push(theirs, otherEcr, 'taken/immutable');
    const result = await run({ from, onExisting: 'overwrite' });
    expect(result.failures).toMatchObject([
      { tag: 'v1', code: 'CONFLICT', reason: expect.stringContaining('immutable') },
    ]);
    expect(result.repositories).toMatchObject([{ copied: 1, failed: 1 }]);
  });
});

describe('settings of a repository that exists', () => {
  const SETTINGS = { scanOnPush: true, tagMutability: 'IMMUTABLE', tags: { team: 'web' } };
  const prepared = async (name: string): Promise<string> => {
    const { backends, options } = lab.session();
    await backends.registry(ecr.registryHost, 'target').applySettings(name, SETTINGS, options);
    await lab.push(await small(30), ecr, name);
    await backends
      .registry(otherEcr.registryHost, 'target')
      .createRepository(name, { scanOnPush: false, tags: { team: 'ops' } }, options);
    const from = `store:s3://${bucket}/${name}`;
    await backedUpToStore(at(ecr, name), from, lab.session());
    return from;
  };
  const settingsOf = async (name: string): Promise<unknown> => {
    const { backends, options } = lab.session();
    return backends.registry(otherEcr.registryHost, 'target').settings(name, options);
  };

  test('stay as they are, and a note reports that', async () => {
    const from = await prepared('kept/settings');
    const { backends, options, events } = lab.session();
    await restoreSnapshot({ from, to: `docker://${otherEcr.registryHost}` }, backends, options);
    expect(await settingsOf('kept/settings')).toMatchObject({ scanOnPush: false, tags: { team: 'ops' } });
    expect(events).toContainEqual({
      type: 'note',
      message: '1 existing repository kept the settings that were there; pass --settings replace to replace them',
    });
  });

  test('are replaced with replace, and the mutability of its tags once these exist', async () => {
    const from = await prepared('replaced/settings');
    await lab.push(await small(31), otherEcr, 'replaced/settings');
    const result = await run({ from, settings: 'replace', onExisting: 'overwrite' });
    expect(result).toMatchObject({ failures: [], faults: [], repositories: [{ comparison: { equal: 1 } }] });
    expect(await settingsOf('replaced/settings')).toMatchObject(SETTINGS);
  });
});

test('a dry run counts what would be sent, each blob of a repository once, and writes nothing', async () => {
  const shared = await makeImage({ seed: 40, layers: [5000], platforms: ['linux/amd64', 'linux/arm64'] });
  await lab.push(shared, ecr, 'dry/app');
  const from = `store:s3://${bucket}/dry-run`;
  await backedUpToStore(at(ecr, 'dry/app'), from, lab.session());
  const bytes = (await contentOf(shared)).reduce((sum, { size }) => sum + size, 0);
  const before = otherEcr.requests.length;
  const result = await run({ from, dryRun: true });
  expect(result).toMatchObject({
    dryRun: true,
    repositories: [{ planned: 1, copied: 0, bytesSent: 0, bytesToSend: bytes }],
  });
  const sent = otherEcr.requests.slice(before).map(({ kind, operation }) => operation ?? kind);
  expect(sent.filter((name) => /put|post|patch|Create|Set/i.test(name))).toEqual([]);
});

test('settings of the registry are restored on request, without a policy that locks the caller out', async () => {
  await lab.push(await small(50), ecr, 'registry/app');
  const deny = { Sid: 'deny', Effect: 'Deny', Principal: '*', Action: 'ecr:*', Resource: '*' };
  const settings = {
    scanning: {
      scanType: 'BASIC',
      rules: [{ scanFrequency: 'SCAN_ON_PUSH', repositoryFilters: [{ filter: 'restored-*', filterType: 'WILDCARD' }] }],
    },
    registryPolicy: JSON.stringify({ Version: '2012-10-17', Statement: [deny] }),
  };
  const from = `s3://${bucket}/registry-settings/`;
  await backedUpToArchives(at(ecr, 'registry/app'), from, lab.session(), (snapshot) => ({
    ...snapshot,
    registry: { ...snapshot.registry, settings },
  }));
  const { backends, options } = lab.session();
  const target = backends.registry(otherEcr.registryHost, 'target');
  const before = await target.registrySettings(options);
  await run({ from, snapshot: 'latest' });
  expect(await target.registrySettings(options)).toEqual(before);
  const result = await run({ from, snapshot: 'latest', registrySettings: true, settings: 'replace' });
  expect(result.faults).toEqual([expect.stringMatching(/the policy was left out: .*--allow-lockout/)]);
  expect(await target.registrySettings(options)).toMatchObject({ scanning: settings.scanning });
  expect(await target.registrySettings(options)).not.toHaveProperty('registryPolicy');
});
