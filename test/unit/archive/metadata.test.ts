import { expect, test } from 'vitest';
import {
  headSizeIn,
  layoutDigestIn,
  metadataOf,
  rangedMetadataOf,
  settingsDigestIn,
} from '../../../worker/archive/metadata.ts';
import { planOf } from '../../support/archives.ts';
import { makeImage } from '../../support/images.ts';

test('metadata has the layout digest, and the head size only where an archive can be read in ranges', async () => {
  const { content, root } = await makeImage();
  const layout = await planOf(content, root);
  const [whole, ranged] = [metadataOf(layout), rangedMetadataOf(layout, 0)];
  expect(layoutDigestIn(whole)).toBe(layout.digest);
  expect(layoutDigestIn(ranged)).toBe(layout.digest);
  expect(headSizeIn(whole)).toBe(undefined);
  expect(headSizeIn(ranged)).toBe(layout.headSize);
  expect(ranged).toMatchObject({ ...whole, 'transship-created': '1970-01-01T00:00:00.000Z' });
});

test('metadata names the settings where they are known', async () => {
  const { content, root } = await makeImage();
  const layout = await planOf(content, root);
  expect(settingsDigestIn(metadataOf(layout, { settings: layout.digest }))).toBe(layout.digest);
  expect(settingsDigestIn(rangedMetadataOf(layout, 0, { settings: layout.digest }))).toBe(layout.digest);
  expect(Object.keys(metadataOf(layout))).not.toContain('transship-settings');
});

test.each([undefined, '', '0', '-5', 'many'])('the head size %j is ignored', (size) => {
  expect(headSizeIn(size === undefined ? {} : { 'transship-head': size })).toBe(undefined);
});

test('an object without metadata has no layout digest', () => {
  expect(layoutDigestIn({})).toBe(undefined);
});
