// A call has room for some 120,000 arguments: `push(...list)` of a longer list, which a registry or a bucket may return, is a RangeError.
import { globSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const FILES = globSync('{worker,local,infra}/**/*.ts', { exclude: ['**/node_modules/**', 'local/test/**'] }).toSorted();
const SPREAD = /\.(?:push|unshift|splice|concat|max|min|fromCharCode|fromCodePoint)\((?:[^(){}[\]]*,)?\s*\.\.\./g;

test.each(FILES)('%s passes no list as the arguments of push, Math.max and the like', (file) => {
  expect(readFileSync(file, 'utf8').match(SPREAD) ?? []).toEqual([]);
});
