import type { Stack } from '../../local/stack.ts';
import type { Away, RegistryFault, RequestFault } from '../../local/faults.ts';
import type { RequestKind } from '../../local/registry/route.ts';
import { systemClock, type Clock } from '../../worker/util/clock.ts';
import { startWorker, type WorkerProcess } from './worker-process.ts';

/** Numbers from 0 to 1, the same for the same seed. */
export type Random = Clock['random'];

/** Processes that are restarted whenever they exit, until the fleet is stopped. */
export interface Fleet extends AsyncDisposable {
  /** All processes that ever ran. */
  readonly all: readonly WorkerProcess[];
  /** One of the running processes. */
  one(random: Random): WorkerProcess;
  /** Stops all running processes by SIGTERM, and starts no more. Returns their exit codes. */
  stop(): Promise<readonly (number | undefined)[]>;
}

export function startFleet(environment: Readonly<Record<string, string>>, each: readonly (readonly string[])[]): Fleet {
  const all: WorkerProcess[] = [];
  const running = new Map<number, WorkerProcess>();
  let isStopped = false;
  const start = (place: number): void => {
    const process = startWorker(environment, each[place]);
    all.push(process);
    running.set(place, process);
    void process.ended.then(() => (isStopped ? undefined : start(place)));
  };
  for (const place of each.keys()) start(place);
  return {
    all,
    one: (random) => oneOf([...running.values()], random),
    stop: async () => {
      isStopped = true;
      for (const process of running.values()) process.kill('SIGTERM');
      return Promise.all([...running.values()].map(async (process) => process.ended));
    },
    [Symbol.asyncDispose]: async () => {
      isStopped = true;
      await Promise.all(all.map(async (process) => process[Symbol.asyncDispose]()));
    },
  };
}

/** What was done to the processes and the servers. */
export interface Chaos {
  readonly killed: number;
  readonly stopped: number;
  readonly faults: number;
  /** Ends the chaos, and takes back faults that have not happened yet. */
  stop(): Promise<void>;
}

const KINDS: readonly RequestKind[] = [
  'token',
  'api',
  'tags-list',
  'referrers-list',
  'manifest-head',
  'manifest-get',
  'manifest-put',
  'blob-head',
  'blob-get',
  'layer-get',
  'upload-post',
  'upload-patch',
  'upload-put',
];
const FAULTS: readonly RegistryFault[] = [
  { kind: 'answer', status: 429 },
  { kind: 'answer', status: 429, retryAfterSeconds: 1 },
  { kind: 'answer', status: 500 },
  { kind: 'answer', status: 503 },
  { kind: 'cut-answer', afterBytes: 0 },
  { kind: 'cut-answer', afterBytes: 1000 },
  { kind: 'cut-request', afterBytes: 500 },
  { kind: 'lose-answer' },
  { kind: 'delay', ms: 300 },
];
const EXPIRED = { kind: 'answer', status: 400, code: 'ExpiredToken' } as const;
const S3_FAULTS: readonly RequestFault[] = [
  { kind: 'answer' },
  { kind: 'answer', status: 429, code: '' },
  EXPIRED,
  { kind: 'cut-request' },
  { kind: 'lose-answer' },
];
/** Longer than any client waits. */
const HANG = { kind: 'delay', ms: 60_000 } as const;
const TURN_MS = 250;
const AWAY_MS = 3000;
/** A fault that no request met for so long is taken back: otherwise old faults would all strike the next request and its retries. */
const WAIT_MS = 3000;

/**
 * Every quarter of a second something fails at random: a process is killed or stopped, requests fail, S3, the queue or the table refuses
 * some calls, or is unavailable or silent for up to three seconds; tokens expire, requests hang. Meanwhile the queue delivers twice, in
 * another order, and again while work is under way. The seed decides the choices; their times depend on the machine.
 */
export function startChaos(stack: Stack, fleet: Fleet, random: Random): Chaos {
  const { s3, sqs, dynamodb, ecr, otherEcr, registry } = stack;
  const over = new AbortController();
  const did = { killed: 0, stopped: 0, faults: 0 };
  const sleep = async (ms: number): Promise<void> =>
    systemClock.sleep(ms, { signal: over.signal }).catch(() => undefined);
  const times = (most: number): number => 1 + Math.floor(random() * most);
  const away = async (server: { goAway(how: Away): void; comeBack(): void }): Promise<void> => {
    server.goAway(random() < 0.1 ? 'silent' : oneOf(['reset', 'unavailable'], random));
    await sleep(random() * AWAY_MS);
    server.comeBack();
  };
  /** Queues a fault for the next three seconds. */
  const soon = (takeBack: () => void): void => void sleep(WAIT_MS).then(takeBack);
  const events: readonly (readonly [share: number, happen: () => Promise<void> | void])[] = [
    [
      0.06,
      () => {
        did.killed++;
        fleet.one(random).kill('SIGKILL');
      },
    ],
    [
      0.04,
      () => {
        did.stopped++;
        fleet.one(random).kill('SIGTERM');
      },
    ],
    [
      0.6,
      () => {
        const { faults } = oneOf([ecr, otherEcr, registry], random);
        soon(faults.add({ operation: oneOf(KINDS, random), times: times(3) }, oneOf(FAULTS, random)));
      },
    ],
    [
      0.15,
      () => {
        const match = { times: times(4), skip: times(5) };
        soon(s3.faults.add(match, oneOf(S3_FAULTS, random)));
      },
    ],
    [0.02, () => soon(oneOf([ecr, otherEcr, registry, s3], random).faults.add({}, HANG))],
    [0.02, () => soon(registry.faults.add({}, { kind: 'expire-token' }))],
    // the tokens of ECR itself last for hours, and a refusal of a new one counts as a missing permission
    [0.02, () => soon(oneOf([ecr, otherEcr], random).faults.add({ operation: 'api' }, EXPIRED))],
    [0.02, async () => away(dynamodb.faults)],
    [0.02, async () => away(sqs.faults)],
    [0.02, async () => away(s3.faults)],
  ];
  sqs.deliveryFaults.add({ share: 0.05 }, { kind: 'duplicate' });
  sqs.deliveryFaults.add({ share: 0.1 }, { kind: 'reorder' });
  sqs.deliveryFaults.add({ share: 0.05 }, { kind: 'reappear', afterSeconds: 0.5 });
  sqs.faults.add({ share: 0.01 }, { kind: 'answer' });
  sqs.faults.add({ share: 0.01 }, { kind: 'lose-answer' });
  sqs.faults.add({ share: 0.002 }, HANG);
  dynamodb.faults.add({ share: 0.02 }, { kind: 'answer' });
  dynamodb.faults.add({ share: 0.01 }, { kind: 'lose-answer' });
  dynamodb.faults.add({ share: 0.002 }, HANG);
  for (const { faults } of [sqs, dynamodb]) {
    faults.add({ share: 0.01 }, { kind: 'answer', status: 429, code: '' });
    faults.add({ share: 0.01 }, { kind: 'answer', status: 400, code: 'ExpiredTokenException' });
  }

  const going = (async () => {
    while (!over.signal.aborted) {
      await sleep(TURN_MS);
      let chance = random();
      for (const [share, happen] of events) {
        chance -= share;
        if (chance >= 0) continue;
        did.faults++;
        await happen();
        break;
      }
    }
  })();
  return {
    get killed() {
      return did.killed;
    },
    get stopped() {
      return did.stopped;
    },
    get faults() {
      return did.faults;
    },
    stop: async () => {
      over.abort();
      await going;
      for (const { faults } of [s3, sqs, dynamodb, ecr, otherEcr, registry]) faults.clear();
      sqs.deliveryFaults.clear();
    },
  };
}

export function oneOf<T>(some: readonly T[], random: Random): T {
  const one = some[Math.floor(random() * some.length)];
  if (one === undefined) throw new Error('there is nothing to choose from');
  return one;
}
