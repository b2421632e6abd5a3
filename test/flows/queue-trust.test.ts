import { afterAll, describe, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { backup } from '../../worker/images/backup.ts';
import { parseMessage, type Job } from '../../worker/queue/job.ts';
import { formatAccess, formatRule } from '../../worker/rules/config.ts';
import { enqueueImage } from '../../worker/service/admin/enqueue.ts';
import { collect } from '../support/chunks.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { deadLettersOf, expectEnded, mirrorJob, testService, type TestService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, registry, bucket } = lab.stack;

let images = 0;
const at = (where: LocalRegistry, name: string, tag = 'v1'): string => `docker://${where.registryHost}/${name}:${tag}`;

async function pushed(name: string): Promise<string> {
  await lab.push(await makeImage({ seed: 7000 + ++images }), registry, name);
  return at(registry, name);
}

/** The job that waits in the queue. */
function waiting(t: TestService): Job {
  const message = parseMessage(t.queue.bodies[0] ?? '');
  if (message.type !== 'job') throw new Error(`the queue holds a message of type ${message.type}`);
  return message.job;
}

const isThere = async (where: LocalRegistry, name: string): Promise<boolean> =>
  (await lab
    .view(where, name)
    .resolve('v1')
    .catch(() => undefined)) !== undefined;

const policyFor = (Principal: unknown): string =>
  JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal, Action: 'ecr:*' }] });

async function ecrRepositories(): Promise<readonly string[]> {
  return Array.fromAsync(lab.session().backends.registry(ecr.registryHost, 'source').repositories());
}

describe('a message that claims to be a job of the state', () => {
  test.each([
    ['another destination', (to: string): object => ({ to: [to] })],
    ['another kind of work', (to: string): object => ({ kind: 'verify', from: to, to: undefined })],
    ['another rule', (): object => ({ rule: 'other' })],
    ['another digest', (): object => ({ digest: `sha256:${'0'.repeat(64)}` })],
  ])('with %s is refused, and the job is done by its own message', async (what, difference) => {
    const t = testService();
    const name = `trust/${what.replaceAll(' ', '-')}`;
    const run = await t.enqueue(mirrorJob(await pushed(name), at(ecr, name)));
    const forged = { ...waiting(t), ...difference(at(otherEcr, name)) };
    const [own = ''] = t.queue.bodies;
    const [delivery] = await t.queue.receive(1, { waitSeconds: 0 });
    await delivery?.settle({ type: 'done' });
    await t.queue.send([{ body: JSON.stringify(forged) }, { body: own }]);
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, run, { done: 1 });
    const [deadLetter, ...others] = await deadLettersOf(t);
    expect(others).toEqual([]);
    expect(deadLetter?.reason).toMatch(/^INVALID: .* job \w+ of run run-1: it differs from the job that the state has/);
    expect(deadLetter?.body).toBe(JSON.stringify(forged));
    expect(await isThere(ecr, name)).toBe(true);
    expect(await isThere(otherEcr, name)).toBe(false);
  });

  test('is refused, and begins no run, when the state does not have its job', async () => {
    const t = testService();
    const name = 'trust/unknown';
    const job = { version: 1, id: 'made-up', run: 'rule-20300101T000000', rule: 'rule', at: '2030-01-01T00:00:00Z' };
    const body = JSON.stringify({ ...job, ...mirrorJob(await pushed(name), at(ecr, name)) });
    await t.queue.send([{ body }]);
    await t.worker(lab.session().backends).drain();
    expect(await t.state.runs.get(job.run)).toBeUndefined();
    expect(await deadLettersOf(t)).toMatchObject([
      { body, reason: expect.stringMatching(/^INVALID: mirror job made-up .*: the state does not have this job/) },
    ]);
    expect(await isThere(ecr, name)).toBe(false);
  });

  test('does not end that job when it cannot be read', async () => {
    const t = testService();
    const name = 'trust/unreadable';
    const run = await t.enqueue(mirrorJob(await pushed(name), at(ecr, name)));
    const { id } = waiting(t);
    const [own = ''] = t.queue.bodies;
    const [delivery] = await t.queue.receive(1, { waitSeconds: 0 });
    await delivery?.settle({ type: 'done' });
    await t.queue.send([{ body: JSON.stringify({ version: 2, run, id }) }, { body: own }]);
    await t.worker(lab.session().backends).drain();
    await expectEnded(t, run, { done: 1 });
    expect(await isThere(ecr, name)).toBe(true);
  });
});

describe('a request by hand', () => {
  /** Sends the request to a worker whose settings allow `allow`. Returns why it was refused, or undefined when it was done. */
  async function ask(
    request: object,
    allow: readonly string[],
    t = testService({ allow }),
  ): Promise<string | undefined> {
    await t.queue.send([{ body: JSON.stringify({ version: 1, ...request }) }]);
    await t.worker(lab.session().backends).drain();
    const [deadLetter] = await deadLettersOf(t);
    const [run] = await t.state.runs.list();
    expect(run?.jobs).toMatchObject(deadLetter === undefined ? { done: 1, failed: 0 } : { done: 0, failed: 1 });
    return deadLetter?.reason;
  }

  test('to restore an archive into a registry that no rule and no setting names is refused before anything is read', async () => {
    const from = `s3://${bucket}/trust/exfiltrate.tar`;
    const mirrored = await pushed('trust/exfiltrate');
    expect(await ask({ kind: 'backup', from: mirrored, to: [from] }, [`s3://${bucket}`])).toBeUndefined();
    const before = registry.requests.length;
    const to = at(registry, 'trust/stolen');
    expect(await ask({ kind: 'restore', from, to }, ['111111111111', `s3://${bucket}`])).toBe(
      `DENIED: target: write to ${to}: no rule writes to ${registry.host}, and nothing allows it: add "${registry.host}" to \`allow\` in the rules file, and apply it`,
    );
    expect(registry.requests).toHaveLength(before);
  });

  test.each([
    ['a bucket', 's3://other-bucket/k.tar', 'backup', 's3://other-bucket'],
    ['a host', 'docker://evil.example/x:1', 'mirror', 'evil.example'],
    [
      'the ECR of another account',
      'docker://333333333333.dkr.ecr.us-east-1.amazonaws.com/x:1',
      'mirror',
      '333333333333.dkr.ecr.us-east-1.amazonaws.com',
    ],
  ])('to write to %s that is not named is refused with the setting to add', async (_, to, kind, entry) => {
    const from = 'docker://registry.example/app:1';
    expect(await ask({ kind, from, to: [to] }, ['111111111111', 's3://backups'])).toContain(`add "${entry}" to`);
    expect(await ask({ kind, from, to: [to] }, [])).toContain(`add "${entry}" to`);
  });

  test('to publish objects writes only to a registry that is named, and reads only S3', async () => {
    await lab.session().backends.bucket(bucket).write('trust/objects/a', Buffer.from('one'));
    const from = `s3://${bucket}/trust/objects/`;
    const to = `docker://${ecr.registryHost}/trust/objects`;
    expect(await ask({ kind: 'publish', from, to }, ['333333333333'])).toMatch(/^DENIED: target: write to /);
    expect(await ask({ kind: 'publish', from, to: `${to}:v1` }, ['111111111111'])).toMatch(/^INVALID: /);
    const t = testService();
    const rule = { kind: 'publish', name: 'files', from, to: to.slice('docker://'.length), onPush: false } as const;
    const document = formatRule({ ...rule, schedule: { cron: '@daily', timeZone: 'UTC' } });
    await t.state.rules.put({ name: 'files', document }, 0);
    expect(await ask({ kind: 'publish', from, to }, [], t)).toBeUndefined();
    expect(await Array.fromAsync(lab.view(ecr, 'trust/objects').tags())).toContain('latest');
  });

  test('reaches a registry that the settings, the rules or their `allow` name', async () => {
    const from = await pushed('trust/allowed');
    const to = [at(ecr, 'trust/allowed')];
    expect(await ask({ kind: 'mirror', from, to }, ['111111111111'])).toBeUndefined();
    const [host] = [registry.host];
    const ruled = testService();
    const rule = {
      name: 'any',
      mirror: { from: 'docker.io/library/alpine', to: `${host}/{repository}` },
      schedule: '@daily',
    };
    await ruled.state.rules.put({ name: 'any', document: JSON.stringify(rule) }, 0);
    expect(await ask({ kind: 'mirror', from, to: [at(registry, 'trust/by-rule')] }, [], ruled)).toBeUndefined();
    const said = testService();
    await said.state.rules.putAccess(formatAccess({ registries: {}, allow: [host] }), 0);
    expect(await ask({ kind: 'mirror', from, to: [at(registry, 'trust/by-allow')] }, [], said)).toBeUndefined();
  });

  test.each([
    ['a policy for everybody', { repositoryPolicy: policyFor('*') }, '"*"'],
    ['a policy for another account', { repositoryPolicy: policyFor({ AWS: '333333333333' }) }, '"333333333333"'],
    [
      'a key of another account',
      { encryption: { type: 'KMS', key: 'arn:aws:kms:us-east-1:333333333333:key/a' } },
      '"arn:aws:kms:us-east-1:333333333333:key/a"',
    ],
  ])('to create a repository with %s is refused', async (_, create, named) => {
    const to = at(ecr, 'trust/granted');
    const reason = await ask({ kind: 'mirror', from: await pushed('trust/grants'), to: [to], create }, [
      '111111111111',
    ]);
    expect(reason).toContain(
      `DENIED: target: create the repository of ${to}: the settings of the request give access to ${named}`,
    );
    expect(await ecrRepositories()).not.toContain('trust/granted');
  });

  test('to create a repository with a policy for its own account is done', async () => {
    const create = { repositoryPolicy: policyFor({ AWS: 'arn:aws:iam::111111111111:root' }) };
    const request = { kind: 'mirror', from: await pushed('trust/own'), to: [at(ecr, 'trust/own')], create };
    expect(await ask(request, ['111111111111'])).toBeUndefined();
  });

  test('for the settings beside archives is refused, even with force', async () => {
    const to = [`s3://${bucket}/trust/repository.json`];
    const request = { kind: 'backup', from: await pushed('trust/settings'), to, force: true };
    expect(await ask(request, [`s3://${bucket}`])).toMatch(/^INVALID: target: .*repository\.json/);
  });
});

describe('the settings that a rule stored beside its archives', () => {
  /** A repository in each of two registries with the same name, and the settings of the first beside its archives. */
  async function stored(name: string): Promise<{ key: string; from: string; before: string }> {
    for (const where of [ecr, otherEcr]) await lab.push(await makeImage({ seed: 7100 + ++images }), where, name);
    await lab.client(otherEcr).applySettings(name, { tagMutability: 'IMMUTABLE' });
    const { backends, options } = lab.session();
    await backup(
      { from: `docker://${ecr.registryHost}/${name}`, to: `s3://${bucket}/{repository}/{tag}.tar` },
      backends,
      options,
    );
    const key = `${name}/repository.json`;
    return { key, from: at(otherEcr, name), before: await textOf(key) };
  }

  async function textOf(key: string): Promise<string> {
    return (await collect(await lab.session().backends.bucket(bucket).read(key))).toString();
  }

  /** Two days after the settings at `key` were stored, a worker receives the request. */
  async function ask(request: object, key: string): Promise<TestService> {
    const t = testService({ allow: [`s3://${bucket}`] });
    const { modified } = await lab.session().backends.bucket(bucket).stat(key);
    await t.clock.advance(modified.getTime() + 48 * 3600 * 1000 - t.clock.now());
    await t.queue.send([{ body: JSON.stringify({ version: 1, ...request }) }]);
    await t.worker(lab.session().backends).drain();
    return t;
  }

  test('are not replaced by those of another registry that a message names', async () => {
    const { key, from, before } = await stored('trust/own-settings');
    const t = await ask({ kind: 'settings', from: from.replace(/:v1$/, ''), to: `s3://${bucket}/${key}` }, key);
    expect(await textOf(key)).toBe(before);
    expect(await deadLettersOf(t)).toMatchObject([
      {
        reason:
          'INVALID: settings job: it has no run: only rules ask for settings; request a backup of an image instead',
      },
    ]);
  });

  test.each([true, false])('are not replaced by those of another registry in a backup with force %s', async (force) => {
    const { key, from, before } = await stored(`trust/settings-force-${force}`);
    const t = await ask(
      { kind: 'backup', from, to: [`s3://${bucket}/trust/settings-force-${force}/x.tar`], force },
      key,
    );
    expect(await deadLettersOf(t)).toEqual([]);
    expect(await textOf(key)).toBe(before);
  });
});

test('a job of a rule writes where its rule pointed when it was planned', async () => {
  const t = testService();
  const name = 'trust/planned';
  const run = await t.enqueue(mirrorJob(await pushed(name), at(otherEcr, name)));
  await t.worker(lab.session().backends).drain();
  await expectEnded(t, run, { done: 1 });
});

describe('enqueue', () => {
  const request = { from: 'docker://registry.example/app:1', to: 'docker://evil.example/app:1' };

  test('refuses a target that the workers would refuse, and sends nothing', async () => {
    const t = testService();
    await expect(enqueueImage(request, { ...t, allow: ['111111111111'] }, { clock: t.clock })).rejects.toMatchObject({
      code: 'DENIED',
      context: { side: 'target' },
      message: expect.stringContaining('add "evil.example" to `allow` in the rules file'),
    });
    expect(t.queue.bodies).toEqual([]);
    expect(await t.state.runs.list()).toEqual([]);
  });

  test('leaves the decision to the workers where it does not know what their settings allow', async () => {
    const t = testService();
    await enqueueImage(request, { ...t, allow: undefined }, { clock: t.clock });
    expect(t.queue.bodies).toHaveLength(1);
  });
});
