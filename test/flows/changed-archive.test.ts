// Archives that were overwritten, truncated or changed after they were written: the planner's list finds them, a worker writes them again.
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, expect, test } from 'vitest';
import { openImage } from '../../worker/archive/reader.ts';
import { formatRule } from '../../worker/rules/config.ts';
import { status, type Status } from '../../worker/service/admin/status.ts';
import { makeImage, type MadeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { clientOf } from '../support/local-s3.ts';
import { rule } from '../support/rules.ts';
import { expectSameImage } from '../support/same-image.ts';
import { deadLettersOf, planRun, testService, type TestService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, bucket, s3 } = lab.stack;
const client = clientOf(s3);
afterAll(() => client.destroy());

interface BackedUp {
  readonly t: TestService;
  readonly images: readonly MadeImage[];
  /** The folder of the archives. */
  readonly folder: string;
  /** Plans due runs an hour later. */
  pass(): Promise<void>;
  work(): Promise<void>;
  status(): Promise<Status>;
  read(name: string): Promise<Buffer>;
  write(name: string, body: Uint8Array): Promise<void>;
}

let seeds = 7000;
/** A repository with so many tags, backed up once by a rule. */
async function backedUp(name: string, ending: string, tags: number): Promise<BackedUp> {
  const t = testService();
  const session = lab.session();
  const images: MadeImage[] = [];
  for (let tag = 1; tag <= tags; tag++) {
    const image = await makeImage({ seed: ++seeds, tag: `v${tag}`, platforms: ['linux/amd64'], layers: [2000] });
    images.push(image);
    await lab.push(image, ecr, name);
  }
  const to = `s3://${bucket}/changed/{repository}/{tag}${ending}`;
  const hourly = rule({ name: 'bk', from: [`${ecr.registryHost}/${name}`], to: [to] });
  await t.state.rules.put({ name: 'bk', document: formatRule(hourly) }, 0);
  const folder = `changed/${name}/`;
  const store = session.backends.bucket(bucket);
  const bench: BackedUp = {
    t,
    images,
    folder,
    pass: async () => void (await planRun(t, session.backends, { hours: 1 })),
    work: async () => t.worker(session.backends).drain(),
    status: async () => status(t, { clock: t.clock }),
    read: async (key) =>
      Buffer.concat(await Array.fromAsync(await store.read(folder + key), (chunk) => Buffer.from(chunk))),
    write: async (key, Body) =>
      void (await client.send(new PutObjectCommand({ Bucket: bucket, Key: folder + key, Body }))),
  };
  await bench.pass();
  await bench.work();
  expect(await bench.status()).toMatchObject({ faulty: false });
  return bench;
}

function half(body: Buffer): Buffer {
  return body.subarray(0, body.byteLength >> 1);
}

function turned(body: Buffer): Buffer {
  const copy = Buffer.from(body);
  copy[copy.byteLength >> 1] = (copy[copy.byteLength >> 1] ?? 0) ^ 1;
  return copy;
}

const DAMAGE = {
  'written over': { damage: () => Buffer.from('not a tar'), fault: /: 9 bytes instead of \d+$/ },
  'cut in half': { damage: half, fault: /: \d+ bytes instead of \d+$/ },
  'turned in one bit': { damage: turned, fault: /: its ETag is \w+ instead of [\w-]+$/ },
};

// 16 are looked up one by one, more are listed
test.each([
  ['written over', '.tar', 1],
  ['cut in half', '.tar', 1],
  ['turned in one bit', '.tar', 1],
  ['written over', '.tar.gz', 1],
  ['cut in half', '.tar.zst', 1],
  ['cut in half', '.tar', 17],
] as const)(
  'an archive that was %s (%s, one of %i) is a fault until it is written again',
  async (how, ending, tags) => {
    const name = `${how.replaceAll(' ', '-')}${ending.replaceAll('.', '-')}-${tags}`;
    const t = await backedUp(name, ending, tags);
    const key = `v1${ending}`;
    const whole = await t.read(key);
    await t.write(key, DAMAGE[how].damage(whole));

    await t.pass();
    const found = await t.status();
    expect(found.faulty).toBe(true);
    expect(found.inFlight).toMatchObject([
      { state: 'waiting', fault: expect.stringMatching(DAMAGE[how].fault) as string },
    ]);
    expect(found.inFlight[0]?.fault).toContain(
      `s3://${bucket}/${t.folder}${key}: archive changed since it was written`,
    );

    await t.work();
    expect(await t.status()).toMatchObject({
      faulty: false,
      inFlight: [],
      deadLetters: 0,
      rules: [{ faults: [], ageSeconds: 0 }],
    });
    expect(await deadLettersOf(t.t)).toEqual([]);
    if (ending === '.tar') {
      expect((await t.read(key)).equals(whole)).toBe(true);
      await using archive = await openImage(lab.session().backends.bucket(bucket), t.folder + key);
      const [image] = t.images;
      if (image !== undefined) await expectSameImage(image.content, archive, image.root);
    } else expect((await t.read(key)).byteLength).toBe(whole.byteLength);

    // and what was written is known afterwards
    await t.pass();
    expect(await t.status()).toMatchObject({ faulty: false, inFlight: [] });
    expect(await t.t.state.runs.list({ limit: 1 })).toMatchObject([{ unchanged: tags, jobs: { done: 0 } }]);
  },
);
