import { expect, test } from 'vitest';
import { openBackendPool, type BackendPool } from '../../../worker/service/backend-pool.ts';
import type { Backends } from '../../../worker/images/backends.ts';
import { formatAccess } from '../../../worker/rules/config.ts';
import type { Access } from '../../../worker/rules/rule.ts';
import { Failure } from '../../../worker/util/failure.ts';
import { manualClock, type ManualClock } from '../../support/clock.ts';
import { failureOf } from '../../support/lab.ts';

interface Setting {
  readonly ends: BackendPool;
  readonly clock: ManualClock;
  /** What is applied from now on. */
  readonly say: (document: string | undefined | Failure) => void;
  /** The access of each that was opened and is still open. */
  readonly open: ReadonlyMap<Backends, Access>;
  readonly reads: () => number;
  readonly warnings: readonly string[];
}

const nothing = async (): Promise<void> => undefined;

function setting(): Setting {
  const clock = manualClock();
  const open = new Map<Backends, Access>();
  const warnings: string[] = [];
  let said: string | undefined | Failure;
  let reads = 0;
  const backends = openBackendPool({
    rules: {
      access: async () => {
        reads++;
        if (said instanceof Failure) throw said;
        return said === undefined ? undefined : { document: said, revision: 1 };
      },
    },
    connect: (access) => {
      const never = (): never => expect.unreachable();
      const made = {
        registry: never,
        bucket: never,
        folder: never,
        temporary: never,
        removeUnfinished: never,
        standardStreams: { input: never, output: never },
        [Symbol.asyncDispose]: async () => void open.delete(made),
      };
      open.set(made, access);
      return made;
    },
    clock,
    report: (event) => void warnings.push(event.type === 'warning' ? event.message : event.type),
  });
  return { ends: backends, clock, open, reads: () => reads, say: (document) => void (said = document), warnings };
}

const ACCESS: Access = {
  '222222222222.dkr.ecr.eu-west-1.amazonaws.com': { assumeRole: 'arn:aws:iam::222222222222:role/mirror' },
};
const ROLE = formatAccess({ registries: ACCESS, allow: [] });

test('jobs share backends while the applied access is the same, which is checked twice a minute', async () => {
  const { ends: backends, clock, open, reads } = setting();
  await backends.use(nothing);
  await clock.advance(29_999);
  await Promise.all([backends.use(nothing), backends.use(nothing)]);
  expect([reads(), open.size]).toEqual([1, 1]);
  await clock.advance(1);
  await backends.use(nothing);
  expect([reads(), open.size]).toEqual([2, 1]);
  await backends[Symbol.asyncDispose]();
  expect(open.size).toBe(0);
});

test('a change applies to the next job; current jobs keep their backends until they end', async () => {
  const { ends: backends, clock, open, say } = setting();
  const gate = Promise.withResolvers<void>();
  const long = backends.use(async () => gate.promise);
  await backends.use(nothing);
  say(ROLE);
  await clock.advance(30_000);
  await backends.use(nothing);
  expect([...open.values()]).toEqual([{}, ACCESS]);
  gate.resolve();
  await long;
  expect([...open.values()]).toEqual([ACCESS]);
});

test('backends are opened anew after a thousand jobs', async () => {
  const { ends: backends, open } = setting();
  for (let i = 0; i < 1000; i++) await backends.use(nothing);
  const [first] = open.keys();
  await backends.use(nothing);
  expect([open.size, [...open.keys()][0] === first]).toEqual([1, false]);
});

test('an unavailable table leaves backends unchanged, and fails the job only if none are open yet', async () => {
  const { ends: backends, clock, say, open, warnings } = setting();
  say(new Failure('UNAVAILABLE', 'the table is away'));
  await failureOf(backends.use(nothing), 'UNAVAILABLE');
  say(ROLE);
  await backends.use(nothing);
  say(new Failure('UNAVAILABLE', 'the table is away'));
  await clock.advance(30_000);
  await backends.use(nothing);
  expect([...open.values()]).toEqual([ACCESS]);
  expect(warnings).toEqual([expect.stringMatching(/the table is away; it stays as it was$/)]);
});

test('unreadable access fails the job: no registry is reached otherwise than was applied', async () => {
  const { ends: backends, clock, say } = setting();
  await backends.use(nothing);
  say('{"host":');
  await clock.advance(30_000);
  await failureOf(backends.use(nothing), 'INVALID');
});

test('a job that fails leaves them open for the next', async () => {
  const { ends: backends, open } = setting();
  await failureOf(
    backends.use(async () => Promise.reject(new Failure('DENIED', 'no'))),
    'DENIED',
  );
  await backends.use(nothing);
  expect(open.size).toBe(1);
});
