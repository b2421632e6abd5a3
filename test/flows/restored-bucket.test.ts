// What the Lambda of restore tests does with a bucket that AWS Backup restored: a folder stands in for the bucket.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { glob, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { verifyRestored } from '../../worker/images/verify-restored.ts';
import { judgeRestore, readRestoreJob } from '../../worker/main/judge-restore.ts';
import { deadline } from '../../worker/util/deadline.ts';
import type { Event } from '../../worker/util/events.ts';
import { Failure } from '../../worker/util/failure.ts';
import { openRestoreResults, type RestoreResults, type RestoreVerdict } from '../../worker/vault/restore-results.ts';
import { backedUpToArchives, backedUpToStore } from '../support/backed-up.ts';
import { makeImage } from '../support/images.ts';
import { failureOf, openLab, type Session } from '../support/lab.ts';
import { listenForTest } from '../support/listen-for-test.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr } = lab.stack;
const JOB = { id: 'job-1', bucket: 'restored' };
const NEVER = new AbortController().signal;

/** A session whose only bucket is a folder. */
async function restored(): Promise<Session & { readonly folder: string }> {
  const folder = await mkdtemp(join(lab.folder, 'restored-'));
  const session = lab.session();
  const backends = { ...session.backends, bucket: () => session.backends.folder(folder) };
  return { ...session, backends, folder };
}

async function pushed(repository: string, count: number): Promise<string> {
  for (let seed = 1; seed <= count; seed++) {
    const image = await makeImage({ seed, platforms: ['linux/amd64'], layers: [800] });
    await lab.push({ ...image, root: { ...image.root, tags: [`v${seed}`] } }, ecr, repository);
  }
  return `${ecr.registryHost}/${repository}`;
}

/** Keeps verdicts in memory. */
function recorded(): RestoreResults & { readonly verdicts: RestoreVerdict[] } {
  const verdicts: RestoreVerdict[] = [];
  return { verdicts, put: async (_, verdict) => void verdicts.push(verdict) };
}

async function archiveIn(folder: string): Promise<string> {
  for await (const name of glob('**/v1.tar', { cwd: folder })) return join(folder, name);
  throw new Error('there is no archive');
}

async function flip(file: string): Promise<void> {
  const bytes = await readFile(file);
  const at = bytes.length >> 1;
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await writeFile(file, bytes);
}

describe('a restored bucket', () => {
  test('passes its test when every byte of its archives and its store is as it was backed up', async () => {
    const session = await restored();
    const from = await pushed('restored-whole/app', 2);
    await backedUpToArchives(from, 's3://restored/archives/', session);
    await backedUpToStore(from, 'store:s3://restored/store/', session);
    const results = recorded();
    const verdict = await judgeRestore(JOB, results, session.backends, { ...session.options, until: NEVER });
    expect(results.verdicts).toEqual([verdict]);
    expect(verdict).toMatchObject({ status: 'SUCCESSFUL', message: expect.stringMatching(/^no finding; /) });
    expect(verdict.message).toContain('s3://restored/: every byte');
    expect(verdict.message).toContain('2 of 2 names');
    expect(verdict.message).toContain('s3://restored/archives/: names only');
    expect(verdict.message).toContain('store:s3://restored/store/: every byte');
  });

  test('fails its test when a byte of an archive differs', async () => {
    const session = await restored();
    await backedUpToArchives(await pushed('restored-damaged/app', 2), 's3://restored/archives/', session);
    await flip(await archiveIn(session.folder));
    const results = recorded();
    const judged = judgeRestore(JOB, results, session.backends, { ...session.options, until: NEVER });
    const { message } = await failureOf(judged, 'CORRUPT');
    expect(message).toContain('restored: FAILED: findings: 1, the first is faulty');
    expect(results.verdicts).toMatchObject([{ status: 'FAILED' }]);
  });

  test('fails its test when an archive that a snapshot names was not restored', async () => {
    const session = await restored();
    await backedUpToArchives(await pushed('restored-gone/app', 2), 's3://restored/archives/', session);
    await rm(await archiveIn(session.folder));
    const results = recorded();
    await failureOf(judgeRestore(JOB, results, session.backends, { ...session.options, until: NEVER }), 'CORRUPT');
    expect(results.verdicts).toMatchObject([{ status: 'FAILED', message: expect.stringContaining('missing: ') }]);
  });

  test('fails its test when every archive at its root is missing, also beside a store that is whole', async () => {
    const session = await restored();
    const from = await pushed('restored-lost/app', 1);
    await backedUpToArchives(from, 's3://restored/', session);
    await backedUpToStore(from, 'store:s3://restored/store/', session);
    await rm(await archiveIn(session.folder));
    const results = recorded();
    await failureOf(judgeRestore(JOB, results, session.backends, { ...session.options, until: NEVER }), 'CORRUPT');
    expect(results.verdicts).toMatchObject([{ status: 'FAILED', message: expect.stringContaining('missing: ') }]);
  });

  test('fails its test when a store has lost all of its snapshots', async () => {
    const session = await restored();
    await backedUpToStore(await pushed('restored-unknown/app', 1), 'store:s3://restored/store/', session);
    await rm(join(session.folder, 'store', 'snapshots'), { recursive: true });
    const results = recorded();
    await failureOf(judgeRestore(JOB, results, session.backends, { ...session.options, until: NEVER }), 'CORRUPT');
    expect(results.verdicts).toMatchObject([
      { status: 'FAILED', message: expect.stringMatching(/^store:s3:\/\/restored\/store\/ has no snapshot; /) },
    ]);
  });

  test('fails its test when it is empty', async () => {
    const { backends, options } = await restored();
    const results = recorded();
    await failureOf(judgeRestore(JOB, results, backends, { ...options, until: NEVER }), 'CORRUPT');
    expect(results.verdicts).toEqual([{ status: 'FAILED', message: 'the bucket has no archive and no store' }]);
  });

  test('has its verdict in the log also when AWS Backup does not take it', async () => {
    const { backends, options } = await restored();
    const notes: string[] = [];
    const report = (event: Event): void => {
      if (event.type === 'note') notes.push(event.message);
    };
    const put = async (): Promise<never> => Promise.reject(new Failure('INVALID', 'it has a result already'));
    await failureOf(judgeRestore(JOB, { put }, backends, { ...options, report, until: NEVER }), 'INVALID');
    expect(notes).toEqual(['restore job job-1: FAILED: the bucket has no archive and no store']);
  });

  test('fails its test when it cannot be read', async () => {
    const { backends, options } = await restored();
    const denied = (): never => {
      throw new Failure('DENIED', 'list s3://restored: the caller needs s3:ListBucket');
    };
    const results = recorded();
    await failureOf(
      judgeRestore(JOB, results, { ...backends, bucket: denied }, { ...options, until: NEVER }),
      'CORRUPT',
    );
    expect(results.verdicts).toMatchObject([
      { status: 'FAILED', message: expect.stringContaining('could not be verified: list s3://restored') },
    ]);
  });

  test('has no verdict about content when time is over, and the verdict is still recorded', async () => {
    const session = await restored();
    await backedUpToArchives(await pushed('restored-late/app', 1), 's3://restored/archives/', session);
    const over = (): Failure => new Failure('ABORTED', 'the time is over');
    await using end = deadline(0, over, session.options.clock);
    const results = recorded();
    const judged = judgeRestore(JOB, results, session.backends, { ...session.options, until: end.signal });
    await failureOf(judged, 'CORRUPT');
    expect(results.verdicts).toMatchObject([{ status: 'TIMED_OUT' }]);
  });

  test('with more bytes than the budget is read in slices that together are everything, and never in a slice without a name', async () => {
    const session = await restored();
    await backedUpToArchives(await pushed('restored-large/app', 6), 's3://restored/archives/', session);
    const hashed = new Set<string>();
    for (let day = 0; day < 16; day++) {
      const { places } = await verifyRestored(
        { bucket: 'restored', budgetBytes: 8000 },
        session.backends,
        session.options,
      );
      const images = places.flatMap((place) => place.images);
      expect(images.length).toBeGreaterThan(0);
      expect(places[0]?.sample?.slices).toBeGreaterThan(1);
      expect((places[0]?.sample?.slices ?? 0) % 7).not.toBe(0);
      for (const { at } of images) hashed.add(at);
      await session.options.clock.sleep(24 * 60 * 60 * 1000);
    }
    expect(hashed.size).toBe(6);
  });
});

test('the result of a restore job is what AWS Backup gets', async () => {
  const requests: { method: string; url: string; body: unknown }[] = [];
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    requests.push({ method: request.method ?? '', url: request.url ?? '', body: await json(request) });
    response.writeHead(204).end();
  };
  const server = createServer((request, response) => void answer(request, response));
  process.env['AWS_ENDPOINT_URL_BACKUP'] = `http://${await listenForTest(server)}`;
  onTestFinished(() => void delete process.env['AWS_ENDPOINT_URL_BACKUP']);
  await openRestoreResults().put('job-1', { status: 'FAILED', message: 'x'.repeat(5000) });
  expect(requests).toEqual([
    {
      method: 'PUT',
      url: '/restore-jobs/job-1/validations',
      body: { ValidationStatus: 'FAILED', ValidationStatusMessage: 'x'.repeat(1000) },
    },
  ]);
});

test('the event of a restore job names the job and the bucket, and no other event does', () => {
  const detail = {
    restoreJobId: 'job-1',
    createdResourceArn: 'arn:aws:s3:::awsbackup-restore-test-1',
    resourceType: 'S3',
  };
  expect(readRestoreJob({ detail })).toEqual({ id: 'job-1', bucket: 'awsbackup-restore-test-1' });
  for (const other of [{}, { detail: {} }, { detail: { ...detail, createdResourceArn: 'arn:aws:rds:::db' } }, null])
    expect(() => readRestoreJob(other)).toThrow('is not the event of a restore job');
});
