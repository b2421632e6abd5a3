// The contract suites over backends on real sockets and files. The suites of memory, of archives and folders in memory, and of registries
// (plain, with tokens, without the referrers API, ECR) are with their units.
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { createArchive } from '../../worker/archive/writer.ts';
import { openFolderTarget } from '../../worker/archive/layout-folder.ts';
import { openImage } from '../../worker/archive/reader.ts';
import { copy } from '../../worker/copy/copy.ts';
import { openFiles } from '../../worker/objects/files/store.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { openS3 } from '../../worker/objects/s3/store.ts';
import { openRegistry, type RegistryClient, type RegistryOptions } from '../../worker/registry/registry.ts';
import { archiveImage, planOf } from '../support/archives.ts';
import { openLab } from '../support/lab.ts';
import { clientOf } from '../support/local-s3.ts';
import { sourceSuite } from '../contracts/source.ts';
import { targetSuite } from '../contracts/target.ts';

const lab = await openLab();
const { ecr, s3, bucket } = lab.stack;
const client = clientOf(s3);
afterAll(async () => {
  client.destroy();
  await lab[Symbol.asyncDispose]();
});

interface Place {
  readonly store: ObjectStore;
  readonly key: string;
}

let places = 0;
const onFiles = async (): Promise<Place> => ({
  store: openFiles(await mkdtemp(join(lab.folder, 'files-'))),
  key: 'team/app/v1.tar',
});
const onS3 = async (): Promise<Place> => ({ store: openS3({ bucket, client }), key: `place-${++places}/v1.tar` });

for (const [where, place] of [
  ['files', onFiles],
  ['S3', onS3],
] as const) {
  sourceSuite(`an archive on ${where}`, async ({ content, root }) => {
    const { store, key } = await place();
    await archiveImage(content, root, store, key);
    return { source: await openImage(store, key) };
  });

  targetSuite(
    `an archive on ${where}`,
    async ({ content, root }) => {
      const { store, key } = await place();
      const target = await createArchive(store, key, await planOf(content, root));
      return { target, view: async () => openImage(store, key), commit: async () => target.commit() };
    },
    { ordered: false, planned: true },
  );
}

sourceSuite('an OCI layout folder on files', async ({ content, root }) => {
  const { store } = await onFiles();
  const target = await openFolderTarget(store);
  await copy(content, target, [root]);
  return { source: await openFolderTarget(store) };
});

targetSuite('an OCI layout folder on files', async () => {
  const { store } = await onFiles();
  return { target: await openFolderTarget(store), view: async () => openFolderTarget(store) };
});

targetSuite(
  'Amazon ECR with immutable tags',
  async () => {
    const clients: RegistryClient[] = [];
    const name = `immutable/app-${++places}`;
    const open = (o: Pick<RegistryOptions, 'side' | 'create'>): RegistryClient => {
      const endpoints = new Map([[ecr.registryHost, ecr.url]]);
      const opened = openRegistry(ecr.registryHost, {
        ...o,
        endpoints,
        credentials: async () => undefined,
        version: 'test',
      });
      clients.push(opened);
      return opened;
    };
    return {
      target: open({ side: 'target', create: { tagMutability: 'IMMUTABLE' } }).repository(name),
      view: async () => open({ side: 'source' }).repository(name),
      close: async () => void (await Promise.all(clients.map(async (opened) => opened.close()))),
    };
  },
  { emptyBlobs: false, tagsMove: false },
);
