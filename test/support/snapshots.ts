import * as fc from 'fast-check';
import { digestOf, type Digest } from '../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../worker/oci/manifest.ts';
import { SnapshotBuilder, type BackedUpImage, type SnapshotFacts } from '../../worker/store/snapshot-builder.ts';
import type { Snapshot, SnapshotContent, SnapshotFailure, SnapshotRepository } from '../../worker/store/snapshot.ts';

export const SNAPSHOT_FACTS: SnapshotFacts = {
  startedAt: '2026-12-01T02:00:00.000Z',
  tool: 'transship 0.1.0',
  kind: 'store',
  registry: { host: '111122223333.dkr.ecr.eu-west-1.amazonaws.com', account: '111122223333', region: 'eu-west-1' },
  scope: { repositories: '*', untagged: false, referrers: true, platforms: [], listed: true },
};

/** A digest that stands for `name`. */
export function digestFor(name: string | number): Digest {
  return digestOf(Buffer.from(String(name)));
}

/** An image of one manifest, a config and a layer of its own, and a layer that all images share. */
export function snapshotImage(name: string, tags: readonly string[], more: Partial<BackedUpImage> = {}): BackedUpImage {
  const content: readonly SnapshotContent[] = [
    { digest: digestFor(name), size: 700, mediaType: MEDIA_TYPE.ociManifest },
    { digest: digestFor(`${name}/config`), size: 300 },
    { digest: digestFor('base'), size: 30_000_000 },
    { digest: digestFor(`${name}/layer`), size: 1_000_000 },
  ];
  return {
    digest: digestFor(name),
    mediaType: MEDIA_TYPE.ociManifest,
    size: 700,
    tags,
    pushedAt: '2026-11-30T10:00:00.000Z',
    content,
    referrers: [],
    ...more,
  };
}

/** A signature of the image `name`, by its subject. */
export function snapshotSignature(name: string): BackedUpImage['referrers'][number] {
  const digest = digestFor(`${name}/signature`);
  return {
    digest,
    mediaType: MEDIA_TYPE.ociManifest,
    size: 500,
    artifactType: 'application/vnd.dev.cosign.artifact.sig.v1+json',
    subject: digestFor(name),
    tags: [],
    content: [
      { digest, size: 500, mediaType: MEDIA_TYPE.ociManifest },
      { digest: digestFor(`${name}/signature/layer`), size: 250 },
    ],
  };
}

export interface SnapshotRecipe extends Partial<SnapshotFacts> {
  readonly finishedAt?: string;
  readonly repositories?: Readonly<
    Record<string, Partial<Pick<SnapshotRepository, 'complete' | 'settings'>> & { images?: readonly BackedUpImage[] }>
  >;
  readonly failures?: readonly SnapshotFailure[];
}

/** A snapshot of these repositories, each complete by default. */
export function makeSnapshot(recipe: SnapshotRecipe = {}): Snapshot {
  const { finishedAt = '2026-12-01T02:10:00.000Z', repositories = {}, failures = [], ...facts } = recipe;
  const builder = new SnapshotBuilder({ ...SNAPSHOT_FACTS, ...facts });
  for (const [name, { images = [], complete = true, ...more }] of Object.entries(repositories)) {
    builder.repository(name, { complete, ...more });
    for (const image of images) builder.image(name, image);
  }
  for (const failure of failures) builder.failure(failure);
  return builder.finish({ finishedAt, added: { blobs: 3, bytes: 1_000_300 } });
}

/** Readers drop a member `__proto__`, and no setting has that name. */
const settingName = fc.string().filter((name) => name !== '__proto__');
/** Any value that JSON can hold unchanged: it has no negative zero. */
const jsonValue = fc.jsonValue().map((value): unknown => JSON.parse(JSON.stringify(value)));

/** Any snapshot that a backup may write. */
export const anySnapshot: fc.Arbitrary<Snapshot> = fc
  .record({
    kind: fc.constantFrom('store' as const, 'archives' as const),
    rule: fc.option(fc.string({ minLength: 1, maxLength: 9 }), { nil: undefined }),
    minutes: fc.nat(100_000),
    untagged: fc.boolean(),
    repositories: fc.dictionary(
      fc.stringMatching(/^[a-z]{1,3}(\/[a-z]{1,3})?$/),
      fc.record({
        complete: fc.boolean(),
        settings: fc.option(fc.dictionary(settingName, jsonValue, { noNullPrototype: true }), { nil: undefined }),
        images: fc.uniqueArray(
          fc.record({
            name: fc.nat(20).map(String),
            tags: fc.nat(2),
            archived: fc.boolean(),
            signed: fc.boolean(),
            foreign: fc.boolean(),
          }),
          { selector: ({ name }) => name, maxLength: 4 },
        ),
      }),
      { maxKeys: 3, noNullPrototype: true },
    ),
    failures: fc.array(
      fc.record(
        {
          repository: fc.constant('team/app'),
          tag: fc.stringMatching(/^[a-z]{1,3}$/),
          digest: fc.nat(9).map(digestFor),
          reason: fc.string({ minLength: 1 }),
        },
        { requiredKeys: ['reason'] },
      ),
      { maxLength: 3 },
    ),
  })
  .map(({ kind, rule, minutes, untagged, repositories, failures }) =>
    makeSnapshot({
      kind,
      ...(rule === undefined ? {} : { rule, run: `${rule}/run` }),
      finishedAt: new Date(Date.UTC(2026, 0) + minutes * 60_000 + 7).toISOString(),
      scope: { ...SNAPSHOT_FACTS.scope, untagged },
      repositories: Object.fromEntries(
        Object.entries(repositories).map(([repository, { complete, settings, images }]) => [
          repository,
          {
            complete,
            ...(settings === undefined ? {} : { settings }),
            images: images.map(({ name, tags, archived, signed, foreign }) => {
              const named = Array.from({ length: tags }, (_, index) => `t${name}-${index}`);
              const archive = { key: `${repository}/${name}.tar`, size: 10_240, etag: '"0123"' };
              return snapshotImage(name, named, {
                ...(archived ? { archived: true as const, content: [], bytes: 12_345 } : {}),
                ...(signed && !archived ? { referrers: [snapshotSignature(name)] } : {}),
                ...(foreign ? { foreign: [digestFor('foreign')] } : {}),
                ...(kind === 'archives' && !archived
                  ? {
                      archives:
                        tags === 0 ? [archive] : named.map((tag) => Object.assign({ tag, version: 'v1' }, archive)),
                    }
                  : {}),
              });
            }),
          },
        ]),
      ),
      failures,
    }),
  );

/** The snapshot in test/fixtures/snapshots-v1. Nothing in it may ever change. */
export function goldenSnapshot(): Snapshot {
  return makeSnapshot({
    rule: 'nightly',
    run: 'nightly/2026-12-01T02:00:00.000Z',
    registry: { ...SNAPSHOT_FACTS.registry, settings: { scanning: { scanType: 'BASIC' } } },
    repositories: {
      'team/app': {
        settings: { imageTagMutability: 'IMMUTABLE' },
        images: [
          snapshotImage('app', ['v1', 'latest'], { referrers: [snapshotSignature('app')] }),
          snapshotImage('old', ['v0'], { content: [], bytes: 41_000_000, archived: true }),
        ],
      },
      'team/windows': {
        complete: false,
        images: [
          snapshotImage('windows', ['ltsc2025'], {
            foreign: [digestFor('foreign')],
            unchecked: ['the registry does not list referrers'],
          }),
        ],
      },
    },
    failures: [{ repository: 'team/app', tag: 'v2', digest: digestFor('v2'), reason: 'the layer was not found' }],
  });
}
