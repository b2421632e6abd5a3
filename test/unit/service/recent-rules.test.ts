import { expect, test } from 'vitest';
import { RecentRules } from '../../../worker/service/recent-rules.ts';
import { memoryState } from '../../../worker/state/memory.ts';
import type { Rules } from '../../../worker/state/state.ts';
import { Failure } from '../../../worker/util/failure.ts';
import { manualClock } from '../../support/clock.ts';

test('reads rules once a minute, however often they are asked for, and sees a change after that', async () => {
  const clock = manualClock();
  const { rules } = memoryState(clock);
  let reads = 0;
  const counted: Pick<Rules, 'list'> = {
    list: async (options) => {
      reads++;
      return rules.list(options);
    },
  };
  const recent = new RecentRules(counted, clock);
  await rules.put({ name: 'a', document: '1' }, 0);
  for (let i = 0; i < 10; i++) expect(await recent.list()).toHaveLength(1);
  await rules.put({ name: 'b', document: '2' }, 0);
  await clock.advance(59_999);
  expect(await recent.list()).toHaveLength(1);
  expect(reads).toBe(1);
  await clock.advance(1);
  expect(await recent.list()).toHaveLength(2);
  expect(reads).toBe(2);
});

test('fails where the table does not answer, rather than use older rules', async () => {
  const clock = manualClock();
  const { rules } = memoryState(clock);
  let isAway = false;
  const recent = new RecentRules(
    {
      list: async (options) => {
        if (isAway) throw new Failure('UNAVAILABLE', 'the table is away');
        return rules.list(options);
      },
    },
    clock,
  );
  await recent.list();
  isAway = true;
  expect(await recent.list()).toEqual([]);
  await clock.advance(60_000);
  await expect(recent.list()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});
