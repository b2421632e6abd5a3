import { describe, expect, test } from 'vitest';
import { misnamedOf, type HeldImage } from '../../../worker/images/misnamed-archives.ts';

const HOST = '111111111111.dkr.ecr.us-east-1.amazonaws.com';

function held(key: string, repository: string, tag: string): HeldImage {
  const at = `s3://b/${key}`;
  return {
    at,
    location: { transport: 's3', bucket: 'b', key },
    prefix: 'p/',
    reference: { registry: HOST, repository, tag },
  };
}

describe('archives whose keys name other images', () => {
  test('are not found where every key names its image', () => {
    const all = [held('p/us-east-1/app/v1.tar', 'app', 'v1'), held('p/us-east-1/app/v2.tar', 'app', 'v2')];
    expect(misnamedOf(all)).toEqual({ findings: [], notes: [] });
  });

  test('are findings where two were swapped, even if these are all', () => {
    const all = [held('p/us-east-1/app/v1.tar', 'app', 'v2'), held('p/us-east-1/app/v2.tar', 'app', 'v1')];
    expect(misnamedOf(all).findings.map(({ kind, at }) => [kind, at])).toEqual([
      ['moved', 's3://b/p/us-east-1/app/v1.tar'],
      ['moved', 's3://b/p/us-east-1/app/v2.tar'],
    ]);
  });

  test('are findings where the keys of the other archives name their images', () => {
    const all = [held('p/us-east-1/app/v1.tar', 'app', 'v1'), held('p/us-east-1/app/v2.tar', 'web', 'v2')];
    expect(misnamedOf(all).findings.map(({ at }) => at)).toEqual(['s3://b/p/us-east-1/app/v2.tar']);
  });

  test.each([
    ['whose template has the tag first', [held('p/v1/app.tar', 'app', 'v1'), held('p/v2/app.tar', 'app', 'v2')]],
    ['in folders of other names', [held('p/old/app/v1.tar', 'app', 'v1'), held('p/new/app/v1.tar', 'app', 'v1')]],
  ])('are notes in a place %s', (_, all) => {
    const { findings, notes } = misnamedOf(all);
    expect({ findings, notes: notes.length }).toEqual({ findings: [], notes: 2 });
  });
});
