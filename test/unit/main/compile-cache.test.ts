import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { compileCacheFolder } from '../../../worker/main/compile-cache.ts';

const home = await mkdtemp(join(tmpdir(), 'transship-home-'));
afterAll(async () => rm(home, { recursive: true, force: true }));
const { uid } = await stat(home);

test("keeps the compiled program in the user's cache folder", () => {
  expect(compileCacheFolder({ HOME: home })).toBe(join(home, '.cache', 'transship'));
  expect(compileCacheFolder({ HOME: '/', XDG_CACHE_HOME: home })).toBe(join(home, 'transship'));
});

test('keeps nothing in a home that belongs to another user, whose compiled code it would run', () => {
  expect(compileCacheFolder({ HOME: home }, uid + 1)).toBeUndefined();
  expect(compileCacheFolder({ HOME: home, XDG_CACHE_HOME: home }, uid + 1)).toBeUndefined();
});

test('keeps nothing without a home', () => {
  for (const env of [{}, { HOME: '' }, { HOME: 'relative' }, { HOME: join(home, 'missing') }])
    expect(compileCacheFolder(env)).toBeUndefined();
});
