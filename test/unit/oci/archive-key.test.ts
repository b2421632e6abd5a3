import { expect, test } from 'vitest';
import { archiveKindOf, isCompressed } from '../../../worker/oci/archive-key.ts';

test.each([
  ['app/v1.tar', 'tar', false],
  ['app/v1.tar.gz', 'tar.gz', true],
  ['app/v1.tar.zst', 'tar.zst', true],
  ['.tar', 'tar', false],
  ['app/v1.tgz', undefined, false],
  ['app/v1.zst', undefined, false],
  ['app/v1.tar.gz.sig', undefined, false],
  ['app/v1.TAR', undefined, false],
  ['tar', undefined, false],
  ['', undefined, false],
])('%j is an archive of the kind %s, compressed: %s', (key, kind, compressed) => {
  expect(archiveKindOf(key)).toBe(kind);
  expect(isCompressed(key)).toBe(compressed);
});
