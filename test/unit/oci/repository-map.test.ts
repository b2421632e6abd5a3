import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { mapRepository, parseRepositoryMap } from '../../../worker/oci/repository-map.ts';

describe('a map of repositories', () => {
  test.each([
    ['team/*=archive/*', 'team/app', 'archive/app'],
    ['team/*=archive/*', 'team/a/b', 'archive/a/b'],
    ['*=mirror/*', 'app', 'mirror/app'],
    ['*-prod=*', 'app-prod', 'app'],
    ['old=new/name', 'old', 'new/name'],
    ['team/*=archive/*', 'other/app', 'other/app'],
  ])('%s puts %s at %s', (text, name, expected) => {
    expect(mapRepository([parseRepositoryMap(text)], name).name).toBe(expected);
  });

  test('applies the first entry that matches', () => {
    const maps = ['team/app=one', 'team/*=two/*'].map(parseRepositoryMap);
    expect(mapRepository(maps, 'team/app').name).toBe('one');
    expect(mapRepository(maps, 'team/web')).toEqual({ name: 'two/web', by: maps[1] });
  });

  test.each(['', 'a', 'a=', '=b', 'a=b=c', 'a/*=b', 'a=b/*', '*/*=b/*', 'A=b', 'a=b c'])('is not %j', (text) => {
    expect(() => parseRepositoryMap(text)).toThrow(expect.objectContaining({ code: 'INVALID' }));
  });

  test('refuses to create a name that no repository can have', () => {
    expect(() => mapRepository([parseRepositoryMap('team*=*')], 'team/app')).toThrow(/is not a repository/);
  });

  test('keeps names distinct that it matches', () => {
    const name = fc.stringMatching(/^[a-z]{1,4}(\/[a-z]{1,4}){0,2}$/);
    fc.assert(
      fc.property(name, name, (a, b) => {
        const map = parseRepositoryMap('*=to/*');
        expect(mapRepository([map], a).name === mapRepository([map], b).name).toBe(a === b);
      }),
    );
  });
});
