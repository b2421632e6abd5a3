// The commands of the deployed system as a person types them, over the embedded stack, beside a worker process. They run in this
// process; cli.test.ts shows that the program runs them.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CreateQueueCommand, SQSClient } from '@aws-sdk/client-sqs';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { readSettings } from '../../worker/main/settings.ts';
import { Failure } from '../../worker/util/failure.ts';
import { connectService } from '../../worker/main/wire.ts';
import { runCommand, type Ended } from '../support/command-line.ts';
import { eventually } from '../support/eventually.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { expectSameImage } from '../support/same-image.ts';
import { startWorker } from '../support/worker-process.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { registry, ecr, otherEcr, bucket, environment } = lab.stack;
const home = join(lab.folder, 'home');
await mkdir(home);
// one worker for all tests: starting processes takes the time here
const worker = startWorker(environment);
afterAll(async () => worker[Symbol.asyncDispose]());
const service = connectService(readSettings(environment));
afterAll(async () => service[Symbol.asyncDispose]());

async function run(args: readonly string[], env: Readonly<Record<string, string>> = environment): Promise<Ended> {
  return runCommand(args, { env: { ...env, HOME: home } });
}

async function json(args: readonly string[]): Promise<{ readonly code: Ended['code']; readonly value: unknown }> {
  const { code, stdout, stderr } = await run([...args, '--json']);
  try {
    return { code, value: JSON.parse(stdout) as unknown };
  } catch {
    throw new Error(`${args.join(' ')} --json: ${code}: ${stdout}${stderr}`);
  }
}

let files = 0;
async function file(text: string): Promise<string> {
  const path = join(lab.folder, `rules-${++files}.yaml`);
  await writeFile(path, text);
  return path;
}

const rules = (repository: string, cron = '0 0 1 1 *'): string => `
version: 1
rules:
  - name: products
    backup:
      from: ${ecr.registryHost}/${repository}
      to: s3://${bucket}/rules/{repository}/{tag}.tar
    schedule: "${cron}"
  - name: abroad
    mirror:
      from: ${registry.registryHost}/${repository}
      to: ${otherEcr.registryHost}/copies/{repository}
    schedule: "${cron}"
`;

/** Empty at first, and after each test that stores rules. */
async function storedRules(): Promise<readonly string[]> {
  return (await service.state.rules.list()).map(({ name }) => name);
}

async function removeRules(): Promise<void> {
  for (const { name, revision } of await service.state.rules.list()) await service.state.rules.remove(name, revision);
}

const withPrune = (repository: string): string => `${rules(repository)}  - name: clean
    prune: { at: ${ecr.registryHost}/${repository}, deleteTags: [pr-*] }
`;

describe('apply and rules', () => {
  test('make the stored rules those of a file, show the differences, and forget one', async () => {
    onTestFinished(removeRules);
    const first = await file(rules('team/app'));
    expect(await run(['apply', '-f', first, '--dry-run'])).toMatchObject({
      code: 0,
      stdout: 'would be: 2 added, 0 changed, 0 removed, 0 as they were\n',
      stderr: '+ rule abroad\n+ rule products\n',
    });
    expect(await storedRules()).toEqual([]);
    expect((await run(['apply', '-f', first])).stdout).toBe('2 added, 0 changed, 0 removed, 0 as they were\n');
    expect((await run(['apply', '-f', first])).stdout).toBe('0 added, 0 changed, 0 removed, 2 as they were\n');

    const second = await file(rules('team/app', '0 2 * * *'));
    const changed = await run(['apply', '-f', second]);
    expect(changed.stdout).toBe('0 added, 2 changed, 0 removed, 0 as they were\n');
    expect(changed.stderr).toContain('schedule.cron: "0 0 1 1 *" → "0 2 * * *"');

    const allowing = await file(`version: 1\nallow: [r.example]\nrules: []\n`);
    expect((await run(['apply', '-f', allowing, '--dry-run'])).stderr).toContain('~ allow: [] → ["r.example"]\n');

    const shown = await json(['rules', 'show', 'products']);
    expect(shown).toMatchObject({ code: 0, value: { name: 'products', revision: 2 } });
    expect(await run(['rules', 'delete', 'abroad'])).toMatchObject({ code: 0 });
    expect((await run(['rules', 'list'])).stdout).toMatch(/^rule +kind +scheduled time .*\n.*\nproducts +backup +in /);
    const gone = await run(['rules', 'show', 'abroad']);
    expect(gone).toMatchObject({ code: 1, stderr: 'transship: there is no rule "abroad", but products\n' });
  });

  test('warn of a rule that prunes what another one backs up; a Cleaner runs the rule on request', async () => {
    onTestFinished(removeRules);
    for (const tag of ['v1', 'pr-1'])
      await lab.push(await makeImage({ seed: tag.length, tag, layers: [300] }), ecr, 'clean/app');
    const path = await file(withPrune('clean/app'));
    const applied = await run(['apply', '-f', path]);
    expect(applied).toMatchObject({ code: 0, stdout: '3 added, 0 changed, 0 removed, 0 as they were\n' });
    expect(applied.stderr).toContain('warning: rule "clean" deletes images of');
    expect(await json(['enqueue', 'clean'])).toMatchObject({ code: 0 });
    const { code, value } = await json(['cleaner', '--once']);
    // the requested run: by the schedule the rule runs later
    expect({ code, value }).toMatchObject({ code: 0, value: { rules: 1, begun: 0, open: 0, places: { failed: 0 } } });
    await expect(lab.view(ecr, 'clean/app').resolve('pr-1')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('refuse a file with all its errors, and change nothing', async () => {
    const bad = await file(
      `version: 1\nrules:\n  - name: x\n    mirror: { fron: a/b, to: c/d }\n    schedule: "61 * * * *"\n`,
    );
    const { code, stderr, stdout } = await run(['apply', '-f', bad]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    // each error is a line of its own, with its place
    const [first, ...faults] = stderr.trimEnd().split('\n');
    expect(first).toMatch(/^transship: read .*: 4 faults$/);
    expect(faults).toHaveLength(4);
    expect(faults[1]).toMatch(/^\S+:4:15: .*"fron"/);
    expect(faults[3]).toMatch(/^\S+:5:5: .*"61 \* \* \* \*"/);
    expect(await storedRules()).toEqual([]);
    expect(await run(['apply', '-f', join(lab.folder, 'none.yaml')])).toMatchObject({ code: 1, stdout: '' });
  });

  test('name what is missing in the environment: 2', async () => {
    const { TRANSSHIP_TABLE, ...rest } = environment;
    expect(TRANSSHIP_TABLE).toBeDefined();
    const { code, stderr } = await run(['status'], rest);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^transship: .*TRANSSHIP_TABLE/);
  });
});

test('enqueue --wait exits 1 for a run that is declared dead', async () => {
  const client = new SQSClient({ maxAttempts: 1 });
  onTestFinished(() => client.destroy());
  // a queue that no worker reads
  const { QueueUrl = '' } = await client.send(new CreateQueueCommand({ QueueName: 'unread' }));
  const from = `docker://${registry.host}/unread/app:v1`;
  const env = { ...environment, TRANSSHIP_REQUEST_QUEUE_URL: QueueUrl };
  const waiting = run(['enqueue', from, `docker://${ecr.registryHost}/unread/app:v1`, '--wait'], env);
  const started = await eventually(async () => {
    const [latest] = await service.state.runs.list({ limit: 1 });
    if (latest?.plannedAtMs === undefined || latest.endedAtMs !== undefined) throw new Error('no run waits');
    return latest;
  });
  await service.state.runs.declareDead(started.id);
  expect(await waiting).toMatchObject({
    code: 1,
    stdout: expect.stringMatching(/^run \S+ was given up after .*waiting 1\n$/),
  });
});

test('enqueue, status and redrive: a job that cannot be done is dead until its cause is fixed', async () => {
  const from = `docker://${registry.host}/late/app:v1`;
  const to = `docker://${ecr.registryHost}/late/app:v1`;
  const failed = await run(['enqueue', from, to, '--wait']);
  expect(failed.code).toBe(1);
  expect(failed.stdout).toMatch(/failed 1.*\nfailed: .*late\/app:v1 → .*: source: .* answered 404/);

  const ill = await run(['status']);
  expect(ill.code).toBe(3);
  expect(ill.stdout).toMatch(/dead letters: 1/);
  expect(ill.stdout).toMatch(/dead letter \S+, .*NOT_FOUND/);

  const image = await makeImage({ signed: true });
  await lab.push(image, registry, 'late/app');
  expect(await run(['redrive', '--rule', 'other'])).toMatchObject({
    stdout: '0 back in the queue; 1 stay dead letters\n',
  });
  expect(await run(['redrive'])).toMatchObject({ code: 0, stdout: '1 back in the queue\n' });
  const done = await run(['enqueue', from, to, '--wait']);
  expect(done, done.stderr).toMatchObject({ code: 0 });
  await expectSameImage(image.content, lab.view(ecr, 'late/app'), image.root);

  const well = await json(['status']);
  expect(well).toMatchObject({ code: 0, value: { deadLetters: 0, faulty: false, failed: [] } });
});

describe('enqueue to a registry that nothing names', () => {
  const target = 'docker://evil.example/app:v1';
  const args = ['enqueue', `docker://${registry.host}/app:v1`, target, '--wait'];
  const why = `target: write to ${target}: no rule writes to evil.example, and nothing allows it: add "evil.example" to \`allow\` in the rules file, and apply it`;

  test('is refused at once, with advice: 1', async () => {
    expect(await run(args)).toEqual({ code: 1, stdout: '', stderr: `transship: ${why}\n` });
  });

  test('is refused by the worker where the environment does not name what is allowed', async () => {
    const { TRANSSHIP_ALLOW: _, ...rest } = environment;
    const { code, stdout } = await run(args, rest);
    expect(code).toBe(1);
    expect(stdout).toContain(why);
    for (const deadLetter of await service.deadLetters.receive(10)) await deadLetter.settle({ type: 'done' });
  });
});

test('enqueue of a rule plans it in the queue, whatever its schedule', async () => {
  const image = await makeImage({ signed: true });
  await lab.push(image, ecr, 'now/app');
  await lab.push(image, registry, 'now/app');
  await run(['apply', '-f', await file(rules('now/app'))]);
  onTestFinished(removeRules);
  for (const rule of ['products', 'abroad']) {
    const { code, value } = await json(['enqueue', rule, '--wait']);
    expect({ code, value }).toMatchObject({ code: 0, value: { rule, jobs: { failed: 0, waiting: 0, running: 0 } } });
  }
  await expectSameImage(image.content, lab.view(otherEcr, 'copies/now/app'), image.root);
  expect(await run(['enqueue', 'nobody'])).toMatchObject({ code: 1 });
  expect(await run(['enqueue', 'products', '--force'])).toMatchObject({ code: 2 });
  expect(await run(['enqueue', 'oci-archive:x.tar', `docker://${registry.host}/x:1`])).toMatchObject({ code: 2 });
});

test('enqueue of a rule that verifies exits 3 for what it finds', async () => {
  const image = await makeImage({ seed: 61, platforms: ['linux/amd64'], layers: [500] });
  await lab.push(image, ecr, 'proved/app');
  const archive = `s3://${bucket}/proved/eu/proved/app/v1.tar`;
  expect((await run(['copy', `docker://${ecr.registryHost}/proved/app:v1`, archive, '-q'])).code).toBe(0);
  const words = `{ at: 's3://${bucket}/proved/' }`;
  await run([
    'apply',
    '-f',
    await file(`version: 1\nrules:\n  - name: prove\n    schedule: '0 4 * * *'\n    verify: ${words}\n`),
  ]);
  onTestFinished(removeRules);
  expect(await json(['enqueue', 'prove', '--wait'])).toMatchObject({ code: 0, value: { jobs: { failed: 0 } } });
  await lab.session().backends.bucket(bucket).write('proved/eu/proved/app/v2.tar', Buffer.alloc(2048));
  const found = await run(['enqueue', 'prove', '--wait']);
  expect(found.code).toBe(3);
  expect(found.stdout).toMatch(/failed: verify s3:.*faulty: .*v2\.tar/);
  for (const deadLetter of await service.deadLetters.receive(10)) await deadLetter.settle({ type: 'done' });
});

describe('sync', () => {
  test('stores the settings of a backup rule beside its archives, and fails where it cannot', async () => {
    await lab.push(await makeImage({ seed: 41, layers: [2000] }), ecr, 'settled/app');
    const path = await file(rules('settled/app'));
    const sync = ['sync', '-f', path, '--rule', 'products'];
    const store = lab.session().backends.bucket(bucket);
    const key = 'rules/settled/app/repository.json';
    expect((await run([...sync, '--dry-run'])).code).toBe(0);
    await expect(store.stat(key)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect((await run(sync)).code).toBe(0);
    const { etag } = await store.stat(key);
    ecr.faults.add({ operation: 'GetLifecyclePolicy' }, { kind: 'answer', status: 400, code: 'AccessDeniedException' });
    const denied = await run(sync);
    expect(denied.code).toBe(1);
    expect(denied.stdout).toMatch(/^fault: rule products: settings of docker:.*settled\/app: .*`settings: false`/m);
    expect(denied.stdout).toMatch(/^0 copied, 1 unchanged, 0 failed, 1 fault, /m);
    await store.write(key, Buffer.from('{}'));
    expect((await run(sync)).code).toBe(0);
    expect((await store.stat(key)).etag).toBe(etag);
    const unwanted = await file(
      (await readFile(path, 'utf8')).replace('/{tag}.tar', '/{tag}.tar\n      settings: false'),
    );
    await store.write(key, Buffer.from('{}'));
    expect((await run(['sync', '-f', unwanted, '--rule', 'products'])).code).toBe(0);
    expect((await store.stat(key)).size).toBe(2);
  });

  test('runs the rules of a file here, and a second time finds nothing to do', async () => {
    const image = await makeImage({ signed: true });
    await lab.push(image, ecr, 'here/app');
    await lab.push(image, registry, 'here/app');
    const path = await file(rules('here/app'));
    const dry = await json(['sync', '-f', path, '--dry-run']);
    expect(dry).toMatchObject({ code: 0, value: { items: [{ outcome: 'planned' }, { outcome: 'planned' }] } });
    const first = await json(['sync', '-f', path]);
    expect(first).toMatchObject({
      code: 0,
      value: { faults: [], items: [{ outcome: 'copied' }, { outcome: 'copied' }] },
    });
    await expectSameImage(image.content, lab.view(otherEcr, 'copies/here/app'), image.root);
    const again = await json(['sync', '-f', path]);
    expect(again).toMatchObject({ value: { items: [{ outcome: 'unchanged' }, { outcome: 'unchanged' }] } });
    // a file has no memory, so its plan cannot count what is unchanged
    const { stdout, stderr } = await run(['sync', '-f', path]);
    expect(stdout).toMatch(/^0 copied, 2 unchanged, 0 failed, /m);
    expect(stderr).toMatch(/^rule products: 1 job$/m);
  });

  test('reports each event with its image, rule and side as JSON', async () => {
    await lab.push(await makeImage({ seed: 77 }), registry, 'told/app');
    const path = await file(rules('told/app'));
    registry.faults.add({ operation: 'blob-get' }, { kind: 'answer', status: 503 });
    const { code, stderr } = await run(['sync', '-f', path, '--rule', 'abroad', '--json']);
    expect(code).toBe(0);
    const lines = stderr.split('\n').filter((line) => line !== '');
    const events = lines.map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);
    const about = { rule: 'abroad', image: `docker://${registry.host}/told/app:v1` };
    for (const type of ['planned', 'blob-done', 'manifest-done', 'tagged', 'image-done'])
      expect(events.find((event) => event['type'] === type)).toMatchObject(about);
    expect(events.filter(({ type }) => type === 'image-done')).toMatchObject([{ outcome: 'copied' }]);
    expect(events.find(({ type }) => type === 'retry')).toMatchObject({ side: 'source' });
  });

  test('publishes objects, and reports in a dry run that it would', async () => {
    const store = lab.session().backends.bucket(bucket);
    for (const name of ['a', 'b']) await store.write(`synced/${name}.txt`, Buffer.from(name));
    const rule = `publish: { from: "s3://${bucket}/synced", to: ${ecr.registryHost}/synced }`;
    const path = await file(`version: 1\nrules:\n  - name: files\n    ${rule}\n    schedule: "@daily"\n`);
    const item = { from: `s3://${bucket}/synced/`, to: `docker://${ecr.registryHost}/synced` };
    const ended = async (...flags: readonly string[]): Promise<unknown> =>
      (await json(['sync', '-f', path, ...flags])).value;
    expect(await ended('--dry-run')).toMatchObject({ items: [{ ...item, outcome: 'planned' }], faults: [] });
    await expect(lab.view(ecr, 'synced').resolve('latest')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await ended()).toMatchObject({ items: [{ ...item, outcome: 'copied' }], faults: [] });
    expect(await ended()).toMatchObject({ items: [{ ...item, outcome: 'unchanged', bytesSent: 0 }] });
  });

  test('deletes by rules that prune only with --prune, and shows before what would be deleted', async () => {
    for (const tag of ['v1', 'pr-1'])
      await lab.push(await makeImage({ seed: tag.length, tag, layers: [300] }), registry, 'pruned/app');
    const at = `${registry.registryHost}/pruned/app`;
    const path = await file(`version: 1\nrules:\n  - name: clean\n    prune: { at: ${at}, deleteTags: [pr-*] }\n`);
    const shown = await run(['sync', '-f', path]);
    expect(shown).toMatchObject({ code: 0, stderr: expect.stringContaining('would be deleted:') });
    expect(shown.stdout).toContain('rule clean: would delete 3 items');
    expect((await run(['sync', '-f', path, '--prune', '--dry-run'])).stdout).toContain('would delete 3 items');
    const view = lab.view(registry, 'pruned/app');
    expect((await view.resolve('pr-1')).digest).toBeDefined();
    const { code, value } = await json(['sync', '-f', path, '--prune']);
    expect({ code, value }).toMatchObject({
      code: 0,
      value: { faults: [], pruned: [{ rule: 'clean', result: { deleted: 3 } }] },
    });
    await expect(view.resolve('pr-1')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect((await view.resolve('v1')).digest).toBeDefined();
  });

  test('with --dry-run reports what a rule would store as planned, and stores nothing', async () => {
    await lab.push(await makeImage({}), ecr, 'tried/app');
    const to = `store:s3://${lab.stack.bucket}/tried/`;
    const text = `version: 1\nrules:\n  - name: tried\n    backup: { from: "${ecr.registryHost}/tried/*", to: "${to}" }\n    schedule: 0 2 * * *\n`;
    const { code, stdout, stderr } = await run(['sync', '-f', await file(text), '--dry-run']);
    expect(code).toBe(0);
    expect(stderr).toMatch(/^planned .*tried\/app:v1$/m);
    expect(stdout).toMatch(/^planned .* KiB .*\n\n1 planned, 0 unchanged, 0 failed, would send up to .* KiB in /m);
    expect(await run(['snapshots', 'list', to])).toMatchObject({ code: 1 });
  });

  test('continues with the other rules when one fails: 1', async () => {
    const image = await makeImage({});
    await lab.push(image, ecr, 'half/app');
    const { code, value } = await json(['sync', '-f', await file(rules('half/app'))]);
    expect(code).toBe(1);
    expect(value).toMatchObject({
      items: [{ outcome: 'copied' }],
      faults: [expect.stringContaining('rule abroad: ')],
    });
    const none = await run(['sync', '-f', await file(rules('half/app')), '--rule', 'unknown']);
    expect(none).toMatchObject({
      code: 1,
      stderr: 'transship: the file has no rule "unknown", but products, abroad\n',
    });
  });
});

// the last test: its job is never done
test('rules list exits 3 with the reason for a rule that cannot be read', async () => {
  const { revision } = await service.state.rules.put({ name: 'broken', document: '{}' }, 0);
  onTestFinished(async () => service.state.rules.remove('broken', revision));
  const { code, stdout, stderr } = await run(['rules', 'list']);
  expect(code).toBe(3);
  expect(stderr).toMatch(/^transship: exit code 3: \d+ (?:fault of a rule|faults of rules)\n$/);
  expect(stdout).toMatch(/^fault: broken: /m);
});

test('enqueue accepts a pattern as one run with a job for each image', async () => {
  for (const tag of ['1.0.0', '1.1.0', 'latest']) await lab.push(await makeImage({ tag }), registry, 'several/app');
  const args = ['enqueue', `${registry.registryHost}/several/*`, `${ecr.registryHost}/copied/`, '--latest', '1'];
  const env = { ...environment, TRANSSHIP_ALLOW: ecr.registryHost };
  const both = await runCommand([...args, '--wait', '--json', '--map', 'several/*=*'], { env: { ...env, HOME: home } });
  expect(both.code, both.stderr).toBe(0);
  expect(JSON.parse(both.stdout)).toMatchObject({ jobs: { done: 1, failed: 0 } });
  const seen: string[] = [];
  for await (const tag of lab.view(ecr, 'copied/app').tags()) seen.push(tag);
  expect(seen).toEqual(['1.1.0']);
  const none = await run(['enqueue', `${registry.registryHost}/several/*:v9`, `${ecr.registryHost}/copied/`]);
  expect(none).toMatchObject({ code: 1, stderr: expect.stringContaining('no image matches') as unknown });
  expect(await run(['enqueue', 'products', '--latest', '1'])).toMatchObject({ code: 2 });
});

test('enqueue --wait reports when it is stopped that its run continues: 130', async () => {
  const args = ['enqueue', 'docker://127.0.0.1:1/app:v1', `docker://${ecr.registryHost}/never:v1`, '--wait'];
  const stop = new AbortController();
  const onStderr = (text: string): void => {
    if (text.includes('waiting')) stop.abort(new Failure('ABORTED', 'stopped by SIGINT'));
  };
  const env = { ...environment, HOME: home };
  const { code, stderr } = await runCommand(args, { env, stop: stop.signal, onStderr });
  expect(code).toBe(130);
  const [latest] = await service.state.runs.list({ limit: 1 });
  expect(stderr).toContain(`transship: stopped waiting: the run ${latest?.id} goes on; see \`transship status\`\n`);
});
