import { describe, expect, test } from 'vitest';
import { isScratchName, parseScratchPlace, scratchFolder } from '../../../worker/oci/scratch.ts';
import { isDrillOver, markOfDrill, parseDrillMark } from '../../../worker/service/drill-mark.ts';
import type { JobRecord } from '../../../worker/state/state.ts';

const AT = '2026-12-01T02:00:00.000Z';
const NOW = Date.parse(AT);
const HOUR_MS = 3_600_000;
const JOB = { run: 'fire-drill-20261201T020000', id: '0123456789abcdef01234567', at: AT };
const drill = { run: JOB.run, job: JOB.id, atMs: NOW };

describe('the mark of a drill', () => {
  test('is read as it was written, and has only characters that a tag of AWS allows', () => {
    expect(parseDrillMark(markOfDrill(JOB))).toEqual(drill);
    expect(markOfDrill(JOB)).toMatch(/^[\w .:/=+@-]{1,256}$/);
  });

  test.each(['', 'command/0123456789abc', 'a/b', 'a/b/c', 'a/b/2026-12-01T02:00:00.000Z/d'])(
    'of another process is not taken for that of a worker: %j',
    (mark) => {
      expect(parseDrillMark(mark)).toBeUndefined();
    },
  );
});

describe('a drill is over', () => {
  const job = (state: JobRecord['state'], changedAtMs: number): JobRecord => ({
    id: JOB.id,
    run: JOB.run,
    state,
    title: '',
    attempts: 1,
    changedAtMs,
  });

  test.each(['done', 'failed', 'skipped', 'gone'] as const)('when its job is %s', (state) => {
    expect(isDrillOver(drill, job(state, NOW), NOW)).toBe(true);
  });

  test.each(['waiting', 'running'] as const)('when its job is %s and has not changed for a day', (state) => {
    expect(isDrillOver(drill, job(state, NOW), NOW + 24 * HOUR_MS)).toBe(false);
    expect(isDrillOver(drill, job(state, NOW), NOW + 25 * HOUR_MS)).toBe(true);
  });

  test('a week after it was requested, when the state does not have its job', () => {
    expect(isDrillOver(drill, undefined, NOW + 7 * 24 * HOUR_MS)).toBe(false);
    expect(isDrillOver(drill, undefined, NOW + 7 * 24 * HOUR_MS + 1)).toBe(true);
  });
});

describe('the name of a scratch repository', () => {
  const place = parseScratchPlace('docker://host.example/team/scratch/');

  test('is recognized only in its place', () => {
    expect(isScratchName(place, `${scratchFolder(place, 'abc1')}/team/app`)).toBe(true);
    for (const name of [
      'team/scratch/app',
      'team/scratch/transship-drill-',
      'team/scratch/transship-drill-/app',
      'team/scratch/transship-drill-abc1',
      'team/scratch/transship-drill-abc1/',
      'team/scratch/transship-drill-a_b/app',
      'team/scratch2/transship-drill-abc1/app',
      'scratch/transship-drill-abc1/app',
    ])
      expect(isScratchName(place, name), name).toBe(false);
  });
});
