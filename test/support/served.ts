import { onTestFinished } from 'vitest';
import type { Source } from '../../worker/content/content.ts';
import { blobsOf, walk } from '../../worker/content/graph.ts';
import { copy } from '../../worker/copy/copy.ts';
import type { ServedImages } from '../../worker/images/served-images.ts';
import type { ObjectStore } from '../../worker/objects/objects.ts';
import { cosignSubject } from '../../worker/oci/derived-tag.ts';
import type { Digest } from '../../worker/oci/digest.ts';
import { artifactTypeOf } from '../../worker/oci/manifest.ts';
import { openRegistry } from '../../worker/registry/registry.ts';
import { serveImages, type ServeOptions } from '../../worker/serve/server.ts';
import { openImageStore } from '../../worker/store/image-store.ts';
import { SnapshotBuilder } from '../../worker/store/snapshot-builder.ts';
import type { SnapshotContent } from '../../worker/store/snapshot.ts';
import { systemClock } from '../../worker/util/clock.ts';
import type { Event } from '../../worker/util/events.ts';
import { fakeClock } from './clock.ts';
import type { MadeImage } from './images.ts';

/** A registry that is served for one test. */
export interface Served {
  /** `127.0.0.1:5000`. */
  readonly host: string;
  readonly url: string;
  readonly events: readonly Event[];
  /** Stops it as a signal does; resolves when it has exited. */
  readonly stop: () => Promise<void>;
  readonly get: (path: string, headers?: Readonly<Record<string, string>>, method?: string) => Promise<Response>;
  readonly repository: (name: string) => Source;
}

/** Serves images on loopback until the test ends. */
export async function serveForTest(images: ServedImages, options: Partial<ServeOptions> = {}): Promise<Served> {
  const stop = new AbortController();
  const events: Event[] = [];
  const serving = await serveImages(images, {
    listen: { host: '127.0.0.1', port: 0 },
    clock: systemClock,
    report: (event) => void events.push(event),
    signal: stop.signal,
    ...options,
  });
  const end = async (): Promise<void> => {
    stop.abort();
    await serving.ended;
  };
  onTestFinished(end);
  const { host } = new URL(serving.url);
  const client = openRegistry(host, {
    side: 'source',
    credentials: async () => undefined,
    plainHttp: true,
    version: 'test',
    clock: fakeClock(),
  });
  onTestFinished(async () => client.close());
  return {
    host,
    url: serving.url,
    events,
    stop: end,
    get: async (path, headers = {}, method = 'GET') =>
      fetch(`${serving.url}${path}`, { method, headers: { connection: 'close', ...headers }, redirect: 'manual' }),
    repository: (name) => client.repository(name),
  };
}

export interface BackedUp {
  readonly repository: string;
  readonly image: MadeImage;
}

/** Backs images of one registry up into the store below `prefix`, and writes their snapshot. */
export async function storeImages(
  store: ObjectStore,
  prefix: string,
  images: readonly BackedUp[],
  { host = 'registry.example.com', finishedAt = '2026-05-31T18:00:00.000Z' } = {},
): Promise<void> {
  const opened = await openImageStore(
    { store, prefix, location: `store:${store.describe(prefix)}` },
    { clock: systemClock, create: true },
  );
  await using backup = await opened.begin();
  const builder = new SnapshotBuilder({
    startedAt: finishedAt,
    tool: 'transship test',
    kind: 'store',
    registry: { host },
    scope: { repositories: '*', untagged: false, referrers: true, platforms: [], listed: true },
  });
  for (const name of new Set(images.map(({ repository }) => repository))) builder.repository(name, { complete: true });
  for (const { repository, image } of images) {
    const { content: source, root } = image;
    await copy(source, backup.target, [root]);
    const all = await walk(source, [root]);
    const below = async (digest: Digest): Promise<SnapshotContent[]> => {
      const node = all.manifests.get(digest);
      if (node === undefined) throw new Error(`${digest} is not in the image`);
      const graph = await walk(source, [{ descriptor: node.descriptor, tags: [] }], { referrers: false });
      const manifests = [...graph.manifests.values()].map((one) => one.descriptor).toReversed();
      return [
        ...manifests.map(({ digest: of, size, mediaType }) => ({ digest: of, size, mediaType })),
        ...blobsOf(graph).map(({ digest: of, size }) => ({ digest: of, size })),
      ];
    };
    const referrers = all.referrers.map(async ({ descriptor, tags }) => {
      const manifest = all.manifests.get(descriptor.digest)?.manifest;
      const subject = manifest?.subject?.digest ?? cosignSubject(tags[0] ?? '');
      if (manifest === undefined || subject === undefined) throw new Error(`${descriptor.digest} refers to nothing`);
      const artifactType = artifactTypeOf(manifest);
      const { digest, size, mediaType } = descriptor;
      const content = await below(digest);
      const named = artifactType === undefined ? {} : { artifactType };
      return Object.assign(named, { digest, size, mediaType, subject, tags, content });
    });
    const { digest, size, mediaType } = root.descriptor;
    builder.image(repository, {
      digest,
      size,
      mediaType,
      tags: root.tags,
      content: await below(digest),
      referrers: await Promise.all(referrers),
    });
  }
  await backup.finish(builder.finish({ finishedAt, added: backup.added }));
}
