import { expect, test } from 'vitest';
import { currentEnds, type CurrentEnds } from '../../worker/current-ends.ts';
import type { Ends } from '../../worker/operations/ends.ts';
import { Failure } from '../../worker/util/failure.ts';
import { failureOf } from '../support/lab.ts';
import { manualClock, type ManualClock } from '../support/manual-clock.ts';

interface Setting {
  readonly ends: CurrentEnds;
  readonly clock: ManualClock;
  /** What the rules say from now on. */
  readonly say: (text: string | Failure) => void;
  /** The number of each that was opened, and has not been closed. */
  readonly open: ReadonlySet<number>;
  readonly reads: () => number;
}

function setting(): Setting {
  const clock = manualClock();
  const open = new Set<number>();
  const numbers = new Map<Ends, number>();
  let said: string | Failure = '{}';
  let reads = 0;
  const ends = currentEnds({
    access: async () => {
      reads++;
      if (said instanceof Failure) throw said;
      return said;
    },
    parse: (text) => JSON.parse(text) as Record<string, never>,
    connect: () => {
      const number = numbers.size + 1;
      open.add(number);
      const never = (): never => expect.unreachable();
      const made = {
        registry: never,
        bucket: never,
        folder: never,
        temporary: never,
        [Symbol.asyncDispose]: async () => void open.delete(number),
      };
      numbers.set(made, number);
      return made;
    },
    clock,
  });
  return { ends, clock, open, reads: () => reads, say: (text) => void (said = text) };
}

test('jobs share them as long as the rules say the same, which is read twice a minute', async () => {
  const { ends, clock, open, reads } = setting();
  await Promise.all([ends.use(async () => 1), ends.use(async () => 2)]);
  clock.advance(29_999);
  await ends.use(async () => 3);
  expect([reads(), [...open]]).toEqual([1, [1]]);
  clock.advance(1);
  await ends.use(async () => 4);
  expect([reads(), [...open]]).toEqual([2, [1]]);
  await ends[Symbol.asyncDispose]();
  expect([...open]).toEqual([]);
});

test('a change of the rules is for the next job; those under way keep theirs until they end', async () => {
  const { ends, clock, open, say } = setting();
  const gate = Promise.withResolvers<void>();
  const long = ends.use(async () => gate.promise);
  await ends.use(async () => undefined);
  say('{"changed":1}');
  clock.advance(30_000);
  await ends.use(async () => undefined);
  expect([...open]).toEqual([1, 2]);
  gate.resolve();
  await long;
  expect([...open]).toEqual([2]);
});

test('they are made anew after a thousand jobs', async () => {
  const { ends, open } = setting();
  for (let i = 0; i < 1000; i++) await ends.use(async () => undefined);
  expect([...open]).toEqual([1]);
  await ends.use(async () => undefined);
  expect([...open]).toEqual([2]);
});

test('what cannot be read fails the job, and is read again for the next', async () => {
  const { ends, say, open } = setting();
  say(new Failure('UNAVAILABLE', 'the table is away'));
  await failureOf(
    ends.use(async () => undefined),
    'UNAVAILABLE',
  );
  say('{}');
  expect(await ends.use(async () => 'done')).toBe('done');
  expect([...open]).toEqual([1]);
});

test('a job that fails leaves them open for the next', async () => {
  const { ends, open } = setting();
  await expect(
    ends.use(async () => {
      throw new Failure('DENIED', 'no');
    }),
  ).rejects.toThrow('no');
  await ends.use(async () => undefined);
  expect([...open]).toEqual([1]);
});
