import { expect, test } from 'vitest';
import { SnapshotBuilder } from '../../../worker/store/snapshot-builder.ts';
import { SNAPSHOT_FACTS } from '../../support/snapshots.ts';

const END = { finishedAt: '2026-01-01T00:00:00.000Z', added: { blobs: 0, bytes: 0 } };

test.each([true, false])('calls a repository incomplete that failed (added before: %s)', (isAdded) => {
  const builder = new SnapshotBuilder(SNAPSHOT_FACTS);
  const settings = { imageTagMutability: 'IMMUTABLE' };
  if (isAdded) builder.repository('team/app', { complete: true, settings });
  builder.incomplete('team/app');
  const { repositories } = builder.finish(END);
  expect(repositories).toEqual([{ name: 'team/app', complete: false, images: [], ...(isAdded ? { settings } : {}) }]);
});

test('refuses a repository that was added', () => {
  const builder = new SnapshotBuilder(SNAPSHOT_FACTS);
  builder.repository('team/app', { complete: true });
  expect(() => builder.repository('team/app', { complete: true })).toThrow('added twice');
});
