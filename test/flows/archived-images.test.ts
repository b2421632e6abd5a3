// Images in ECR's archive storage class, restored for a backup and archived again after it: against the embedded ECR.
import { afterAll, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { ArchivedImages } from '../../worker/images/archived-images.ts';
import type { ListedImage, Registry } from '../../worker/images/backends.ts';
import { RestoredImages } from '../../worker/images/restored-images.ts';
import type { Digest } from '../../worker/oci/digest.ts';
import type { Event } from '../../worker/util/events.ts';
import { Failure } from '../../worker/util/failure.ts';
import { callEcr } from '../support/call-ecr.ts';
import { fakeClock, type FakeClock } from '../support/clock.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { failureOf, openLab, sentenceOf } from '../support/lab.ts';
import { MemoryObjects } from '../support/memory-objects.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());

const RESTORE_SECONDS = 45;
const REPOSITORY = 'team/app';
let regions = 0;

interface Bench {
  readonly server: LocalRegistry;
  readonly registry: Registry;
  readonly clock: FakeClock;
  readonly store: MemoryObjects;
  readonly events: readonly Event[];
  rows(): Promise<readonly ListedImage[]>;
  statuses(): Promise<readonly string[]>;
  restored(store?: MemoryObjects): RestoredImages;
  open(options?: { readonly waitMs?: number; readonly signal?: AbortSignal }): Promise<ArchivedImages>;
  /** Archives every row, as a lifecycle rule does. */
  archiveAll(): Promise<void>;
}

/** An ECR where restoring takes time, on a clock that advances when it is waited for. */
async function bench(
  images: readonly MadeImage[],
  options: {
    readonly deny?: readonly `ecr:${string}`[];
    readonly clock?: FakeClock;
    readonly restoreSeconds?: number;
  } = {},
): Promise<Bench> {
  const clock = options.clock ?? fakeClock();
  const region = `eu-south-${++regions}`;
  const { deny = [], restoreSeconds = RESTORE_SECONDS } = options;
  const server = await lab.registry({
    mode: 'ecr',
    account: '222222222222',
    region,
    clock,
    deny,
    restoreSeconds,
  });
  for (const one of images) await lab.push(one, server, REPOSITORY);
  const registry = lab.session().backends.registry(server.registryHost, 'source');
  const store = new MemoryObjects();
  const events: Event[] = [];
  const rows = async (): Promise<readonly ListedImage[]> => Array.fromAsync(registry.images?.(REPOSITORY) ?? []);
  const restored = (other = store): RestoredImages =>
    new RestoredImages({ store: other, prefix: 'backups/', registry: server.registryHost });
  return {
    server,
    registry,
    clock,
    store,
    events,
    rows,
    statuses: async () => (await rows()).map(({ status }) => status),
    restored,
    open: async (more = {}) =>
      ArchivedImages.open(
        { registry, repository: REPOSITORY, rows: await rows(), restored: restored() },
        { clock, report: (event) => void events.push(event), ...more },
      ),
    archiveAll: async () => {
      for (const { digest, status } of await rows())
        if (status === 'ACTIVE')
          await callEcr(server.url, region, 'UpdateImageStorageClass', {
            repositoryName: REPOSITORY,
            imageId: { imageDigest: digest },
            targetStorageClass: 'ARCHIVE',
          });
    },
  };
}

async function image(seed: number, signed = false): Promise<MadeImage & { readonly digest: Digest }> {
  const made = await makeImage({ seed, tag: `v${seed}`, layers: [2000], signed });
  return { ...made, digest: made.root.descriptor.digest };
}

function notes(events: readonly Event[], type: 'note' | 'warning'): readonly string[] {
  return events.flatMap((event) => (event.type === type ? [event.message] : []));
}

test('restores an archived index with its children and all its referrers, and archives them again', async () => {
  const one = await image(1, true);
  const b = await bench([one]);
  await b.archiveAll();
  const archived = await b.open();
  expect(archived.isArchived(one.digest)).toBe(true);
  const done = await archived.during(one.digest, async () => {
    expect(new Set(await b.statuses())).toEqual(new Set(['ACTIVE']));
    return 'done';
  });
  expect(done).toBe('done');
  expect(new Set(await b.statuses())).toEqual(new Set(['ARCHIVED']));
  // twice: the children are known once the index can be read
  expect(b.clock.sleeps.length).toBeGreaterThanOrEqual((2 * RESTORE_SECONDS) / 15);
  expect(notes(b.events, 'note')[0]).toMatch(/^team\/app: waiting for \d+ images? to be restored/);
  expect(new Set((await b.restored().of(REPOSITORY)).keys())).toEqual(new Set());
});

test('waits once for images that are requested at once, and leaves active ones alone', async () => {
  const images = [await image(2), await image(3)];
  const active = await image(4);
  const b = await bench(images);
  await b.archiveAll();
  await lab.push(active, b.server, REPOSITORY);
  const archived = await b.open();
  expect(archived.isArchived(active.digest)).toBe(false);
  await Promise.all(images.map(async ({ digest }) => archived.during(digest, async () => undefined)));
  expect(b.clock.sleeps.length).toBeLessThanOrEqual((3 * RESTORE_SECONDS) / 15 + 2);
  const statuses = new Map((await b.rows()).map(({ digest, status }) => [digest, status]));
  expect(statuses.get(active.digest)).toBe('ACTIVE');
  for (const { digest } of images) expect(statuses.get(digest)).toBe('ARCHIVED');
});

test('archives again after a failure of the copy, which is thrown unchanged', async () => {
  const one = await image(5);
  const b = await bench([one]);
  await b.archiveAll();
  const archived = await b.open();
  const broken = new Error('the copy broke');
  await expect(
    archived.during(one.digest, async () => {
      throw broken;
    }),
  ).rejects.toBe(broken);
  expect(new Set(await b.statuses())).toEqual(new Set(['ARCHIVED']));
});

test('gives up an image that is not active in time; images still activating are named, and noted for the next backup', async () => {
  const one = await image(6);
  const b = await bench([one], { restoreSeconds: 20 * 60 });
  await b.archiveAll();
  const archived = await b.open({ waitMs: 2 * 60_000 });
  const sentence = await sentenceOf(
    archived.during(one.digest, async () => expect.unreachable()),
    'UNAVAILABLE',
  );
  expect(sentence).toBe(
    `restore team/app@${one.digest} from the archive storage class: it is not active after 2 minutes`,
  );
  expect(notes(b.events, 'warning')).toEqual([
    expect.stringMatching(
      /stays in the storage class STANDARD: .*the next backup with --include-archived archives it again$/,
    ),
  ]);
  expect(new Set((await b.restored().of(REPOSITORY)).keys())).toEqual(new Set([one.digest]));
});

test('stops waiting when it is aborted, and notes the images that it leaves', async () => {
  const stop = new AbortController();
  const one = await image(7);
  const clock = fakeClock({ onSleep: () => stop.abort() });
  const b = await bench([one], { clock });
  await b.archiveAll();
  const archived = await b.open({ signal: stop.signal });
  await failureOf(
    archived.during(one.digest, async () => expect.unreachable()),
    'ABORTED',
  );
  expect(new Set((await b.restored().of(REPOSITORY)).keys())).toEqual(new Set([one.digest]));
});

test('archives again the images that a killed backup left, whether or not it copies them', async () => {
  const images = [await image(8), await image(9)];
  const b = await bench(images);
  // as a killed backup leaves them
  const left = (await b.rows()).map(({ digest }) => digest);
  await b.restored().add(REPOSITORY, left, { atMs: b.clock.now() });
  const archived = await b.open();
  const [first] = images;
  expect(first === undefined || archived.isArchived(first.digest)).toBe(true);
  if (first !== undefined) await archived.during(first.digest, async () => undefined);
  expect(await b.statuses()).toContain('ACTIVE');
  await archived.close();
  expect(new Set(await b.statuses())).toEqual(new Set(['ARCHIVED']));
  expect(b.clock.sleeps).toEqual([]);
  expect(new Set((await b.restored().of(REPOSITORY)).keys())).toEqual(new Set());
});

test('restores nothing that it could not note first', async () => {
  const one = await image(10);
  const b = await bench([one]);
  await b.archiveAll();
  const store = Object.assign(new MemoryObjects(), {
    write: async () => Promise.reject(new Failure('DENIED', 'the bucket does not allow it')),
  });
  const request = { registry: b.registry, repository: REPOSITORY, rows: await b.rows(), restored: b.restored(store) };
  const archived = await ArchivedImages.open(request, b);
  await failureOf(
    archived.during(one.digest, async () => expect.unreachable()),
    'DENIED',
  );
  expect(new Set(await b.statuses())).toEqual(new Set(['ARCHIVED']));
});

test('names the permission that is missing', async () => {
  const one = await image(11);
  const denied = await bench([one]);
  await denied.archiveAll();
  const rows = await denied.rows();
  const b = await bench([one], { deny: ['ecr:UpdateImageStorageClass'] });
  const request = { registry: b.registry, repository: REPOSITORY, rows, restored: b.restored() };
  const archived = await ArchivedImages.open(request, b);
  const sentence = await sentenceOf(
    archived.during(one.digest, async () => undefined),
    'DENIED',
  );
  expect(sentence).toContain('the caller needs ecr:UpdateImageStorageClass');
});

test('finds no archived images in a registry that is not ECR', async () => {
  const { registry: server } = lab.stack;
  const registry = lab.session().backends.registry(server.registryHost, 'source');
  const b = await bench([]);
  const request = { registry, repository: REPOSITORY, rows: [], restored: b.restored() };
  await failureOf(ArchivedImages.open(request, b), 'UNSUPPORTED');
});

test('keeps the notes of backups that run at once', async () => {
  const b = await bench([]);
  const digests = Array.from({ length: 8 }, (_, i): Digest => `sha256:${String(i).repeat(64)}`);
  const writers = digests.map((digest) => ({ digest, restored: b.restored() }));
  await Promise.all(writers.map(async ({ digest, restored }) => restored.add(REPOSITORY, [digest], { atMs: 0 })));
  expect(new Set((await b.restored().of(REPOSITORY)).keys())).toEqual(new Set(digests));
  await Promise.all(writers.map(async ({ digest, restored }) => restored.forget(REPOSITORY, [digest])));
  expect(new Set((await b.restored().of(REPOSITORY)).keys())).toEqual(new Set());
  await b.store.write('backups/snapshots/restored-images-x.json', Buffer.from('{}'));
  const other = new RestoredImages({ store: b.store, prefix: 'backups/', registry: 'x' });
  await failureOf(other.of(REPOSITORY), 'INVALID');
});

test('archives again an image that was still activating when the next backup began', async () => {
  const one = await image(12);
  const b = await bench([one]);
  await b.archiveAll();
  // as a backup that is killed right after the request leaves it
  await b.restored().add(REPOSITORY, [one.digest], { atMs: b.clock.now() });
  await b.registry.storageClasses?.moveToStorageClass(REPOSITORY, one.digest, 'STANDARD');
  expect(await b.statuses()).toContain('ACTIVATING');
  const archived = await b.open();
  await archived.during(one.digest, async () => undefined);
  await archived.close();
  expect(new Set(await b.statuses())).toEqual(new Set(['ARCHIVED']));
  expect(await b.restored().of(REPOSITORY)).toEqual(new Map());
});

test('a pass that does not wait leaves images that it restores to the next one, and gives up an image after an hour', async () => {
  const one = await image(13, true);
  const b = await bench([one], { restoreSeconds: 2 * 3600 });
  await b.archiveAll();
  const pass = async (): Promise<boolean> => {
    const request = { registry: b.registry, repository: REPOSITORY, rows: await b.rows(), restored: b.restored() };
    const archived = await ArchivedImages.open({ ...request, waits: false }, b);
    const isReady = await archived.isReady(one.digest);
    await archived.close();
    return isReady;
  };
  expect(await pass()).toBe(false);
  expect(b.clock.sleeps).toEqual([]);
  const first = await b.statuses();
  expect(first).toContain('ACTIVATING');
  await b.clock.sleep(59 * 60_000);
  expect(await pass()).toBe(false);
  expect(await b.statuses()).toEqual(first);
  await b.clock.sleep(60_000);
  expect(await sentenceOf(pass(), 'UNAVAILABLE')).toMatch(/it is not active after 60 minutes$/);
  // its children next, while it stays in STANDARD
  await b.clock.sleep(3600_000);
  expect(await pass()).toBe(false);
  await b.clock.sleep(2 * 3600_000);
  expect(await pass()).toBe(true);
});

test('restores a hundred images of a repository at once, then the others', async () => {
  const rows = Array.from({ length: 103 }, (_, index): ListedImage => ({
    digest: `sha256:${index.toString(16).padStart(64, '0')}`,
    tags: [`v${index}`],
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    pushedAt: undefined,
    status: 'ARCHIVED',
    subject: undefined,
  }));
  const b = await bench([]);
  const status = new Map<Digest, ListedImage['status']>(rows.map(({ digest }) => [digest, 'ARCHIVED']));
  const registry: Registry = {
    ...b.registry,
    storageClasses: {
      moveToStorageClass: async (_repository, digest, to) => {
        const now = to === 'ARCHIVE' ? 'ARCHIVED' : 'ACTIVATING';
        status.set(digest, now);
        return now;
      },
      imageStatuses: async () => status,
    },
  };
  const pass = async (): Promise<number> => {
    const listed = rows.map((row) => ({ ...row, status: status.get(row.digest) ?? row.status }));
    const request = { registry, repository: REPOSITORY, rows: listed, restored: b.restored(), waits: false };
    const archived = await ArchivedImages.open(request, b);
    let ready = 0;
    for (const { digest } of rows.slice(Math.min(done, rows.length)))
      if (await archived.isReady(digest)) await archived.during(digest, async () => void ready++);
    await archived.close();
    return ready;
  };
  let done = 0;
  const restoring = (): number => [...status.values()].filter((one) => one === 'ACTIVATING').length;
  expect(await pass()).toBe(0);
  expect(restoring()).toBe(100);
  for (const [digest, one] of status) if (one === 'ACTIVATING') status.set(digest, 'ACTIVE');
  done += await pass();
  expect([done, restoring()]).toEqual([100, 3]);
  expect([...status.values()].filter((one) => one === 'ACTIVE')).toEqual([]);
});
