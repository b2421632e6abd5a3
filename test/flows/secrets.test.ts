// Secrets of every kind are planted, a registry repeats what it receives, and nothing that leaves the program may contain them.
import { DynamoDB } from '@aws-sdk/client-dynamodb';
import { S3 } from '@aws-sdk/client-s3';
import { SQS } from '@aws-sdk/client-sqs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { execute } from '../../worker/main/program.ts';
import { readSettings } from '../../worker/main/settings.ts';
import { connectService } from '../../worker/main/wire.ts';
import { enqueueImage } from '../../worker/service/admin/enqueue.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { eventually } from '../support/eventually.ts';
import { SIGNED, startGossipingRegistry, type GossipingRegistry } from '../support/gossiping-registry.ts';
import { makeImage } from '../support/images.ts';
import { openLab, PASSWORD } from '../support/lab.ts';
import { startWorker } from '../support/worker-process.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { bucket, environment } = lab.stack;

interface Said {
  readonly code: number;
  readonly text: string;
}

async function cli(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Said> {
  const said: string[] = [];
  const screen = { write: (text: string) => void said.push(text), terminal: false, columns: 80 };
  const code = await execute({
    argv: ['node', 'transship', ...args],
    env: { ...environment, HOME: lab.folder, ...env },
    stdout: screen,
    stderr: screen,
    stop: new AbortController().signal,
  });
  return { code, text: said.join('') };
}

async function gossip(token: string): Promise<GossipingRegistry> {
  const registry = await startGossipingRegistry(token);
  onTestFinished(async () => registry[Symbol.asyncDispose]());
  return registry;
}

/** None of the secrets, nor their Basic and URL encodings. */
function expectNone(text: string, secrets: readonly string[]): void {
  const forms = secrets.flatMap((secret) => [
    secret,
    encodeURIComponent(secret),
    ...['ann', 'helped', 'x'].map((user) => Buffer.from(`${user}:${secret}`).toString('base64')),
  ]);
  expect(text).not.toBe('');
  expect(
    forms.filter((form) => text.includes(form)),
    text,
  ).toEqual([]);
}

/** The same command as text and as JSON, with all its output. */
async function everyOutput(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<string> {
  const outputs = await Promise.all([cli([...args, '-v'], env), cli([...args, '-v', '--json'], env)]);
  for (const { code, text } of outputs) expect(code, text).not.toBe(0);
  return outputs.map(({ text }) => text).join('\n');
}

const to = (name: string): string => `oci-archive:${join(lab.folder, name)}.tar`;

describe('the output of the command line does not contain', () => {
  test('the password of a flag that the registry repeats', async () => {
    const registry = await gossip('planted-bearer-1');
    const said = await everyOutput([
      'copy',
      `${registry.host}/basic/app:v1`,
      to('flag'),
      '--src-creds',
      'ann:pl@nted flag+1',
    ]);
    expect(registry.authorized).toBeGreaterThan(0);
    expectNone(said, ['pl@nted flag+1', 'planted-bearer-1']);
  });

  test('the password and the identity token of an authfile', async () => {
    const registry = await gossip('planted-bearer-2');
    const file = join(lab.folder, 'auth.json');
    const auths = (entry: object): string => JSON.stringify({ auths: { [registry.host]: entry } });
    await writeFile(file, auths({ auth: Buffer.from('ann:planted-file-2').toString('base64') }));
    const copy = ['copy', `${registry.host}/bearer/refused:v1`, to('file'), '--src-authfile', file];
    expectNone(await everyOutput(copy), ['planted-file-2', 'planted-bearer-2']);
    await writeFile(file, auths({ identitytoken: 'planted-identity-2' }));
    expectNone(await everyOutput(copy), ['planted-identity-2', 'planted-bearer-2']);
  });

  test('the password of a credential helper, even if the helper fails and prints it', async () => {
    const registry = await gossip('planted-bearer-3');
    const folder = join(lab.folder, 'helpers');
    await mkdir(folder);
    const helper = async (name: string, script: string): Promise<void> => {
      const path = join(folder, `docker-credential-${name}`);
      await writeFile(path, `#!/bin/sh\n${script}\n`);
      await chmod(path, 0o755);
    };
    await helper('planted', `echo '{"Username":"helped","Secret":"planted-helper-3"}'`);
    await helper('failing', `echo 'login failed: password=planted-failing-3'; exit 1`);
    const path = process.env['PATH'] ?? '';
    process.env['PATH'] = `${folder}:${path}`;
    onTestFinished(() => void (process.env['PATH'] = path));
    const file = join(lab.folder, 'helped.json');
    for (const [name, secret] of [
      ['planted', 'planted-helper-3'],
      ['failing', 'planted-failing-3'],
    ] as const) {
      await writeFile(file, JSON.stringify({ credHelpers: { [registry.host]: name } }));
      const copy = ['copy', `${registry.host}/basic/app:v1`, to('helper')];
      expectNone(await everyOutput(copy, { REGISTRY_AUTH_FILE: file }), [secret]);
    }
  });

  test('a bearer token, or the signature of the URL of a layer', async () => {
    const registry = await gossip('planted-bearer-4');
    const creds = ['--src-creds', 'ann:planted-flag-4'];
    for (const name of ['bearer/app', 'bearer/presigned']) {
      const said = await everyOutput(['copy', `${registry.host}/${name}:v1`, to('bearer'), ...creds]);
      expectNone(said, ['planted-bearer-4', 'planted-flag-4', ...Object.values(SIGNED)]);
    }
  });

  test.each([
    ['joined', ['--src-cred=ann:planted-typo-5'], "unknown option '--src-cred'"],
    ['apart', ['--src-cred', 'ann:planted-typo-5'], "unknown option '--src-cred'"],
    ['short', ['-Sann:planted-typo-5'], "unknown option '-S'"],
    ['one dash', ['-src-creds=ann:planted-typo-5'], 'unknown option'],
    ['without dashes', ['src-creds', 'ann:planted-typo-5'], 'too many arguments'],
  ])('the value of a flag that is mistyped (%s)', async (_, args, shown) => {
    const { code, text } = await cli(['copy', 'a.example/b:1', to('typo'), ...args]);
    expect(code).toBe(2);
    expect(text).toContain(shown);
    expectNone(text, ['planted-typo-5']);
  });

  test.each([
    ['copy', 'a.example/b:1', 's3://b/k.tar', '--concurrency'],
    ['verify', 's3://b/k.tar', '--concurrency'],
    ['status', '--runs'],
    ['worker', '--slots'],
    ['planner', '--every'],
  ])('the value of a flag that takes a number (%s)', async (...args) => {
    const { code, text } = await cli([...args, "planted-typo-6' is invalid. planted-typo-7"]);
    expect(code).toBe(2);
    expect(text).toMatch(/error: option '--\w+ <\w+>' is invalid: .*(?:from 1 to|1s to)/);
    expectNone(text, ['planted-typo-6', 'planted-typo-7']);
  });
});

test('a worker that is refused keeps secrets out of logs, table, messages, dead letters and status', async () => {
  const registry = await gossip('planted-bearer-6');
  const file = join(lab.folder, 'worker.json');
  await writeFile(
    file,
    JSON.stringify({ auths: { [registry.host]: { auth: Buffer.from('ann:planted-worker-6').toString('base64') } } }),
  );
  await using service = connectService(readSettings(environment));
  const names = ['basic/app', 'bearer/presigned'];
  for (const name of names) {
    const request = { from: `docker://${registry.host}/${name}:v1`, to: `s3://${bucket}/secrets/${name}.tar` };
    await enqueueImage(request, service, { clock: systemClock });
  }
  const worker = startWorker({ ...environment, REGISTRY_AUTH_FILE: file });
  onTestFinished(async () => worker[Symbol.asyncDispose]());
  const failed = (): number => worker.lines.filter(({ event }) => event === 'job-failed').length;
  await eventually(() => expect(failed()).toBe(names.length));
  worker.kill('SIGTERM');
  await worker.ended;

  const { text: told } = await cli(['status', '--json']);
  const dynamodb = new DynamoDB({});
  const items = await dynamodb.scan({ TableName: environment['TRANSSHIP_TABLE'] });
  const sqs = new SQS({});
  const queues = ['QUEUE', 'REQUEST_QUEUE', 'DEAD_LETTER_QUEUE'].map((name) => environment[`TRANSSHIP_${name}_URL`]);
  const messages = await Promise.all(
    queues.map(async (QueueUrl) =>
      sqs.receiveMessage({ QueueUrl, MaxNumberOfMessages: 10, MessageAttributeNames: ['All'] }),
    ),
  );
  dynamodb.destroy();
  sqs.destroy();
  expect(messages.at(-1)?.Messages).toHaveLength(names.length);
  const all = [JSON.stringify(worker.lines), worker.stderr, told, JSON.stringify(items), JSON.stringify(messages)];
  expectNone(all.join('\n'), ['planted-worker-6', 'planted-bearer-6', ...Object.values(SIGNED)]);
});

test('an archive and its metadata contain none of the credentials with which it was read', async () => {
  const guarded = await lab.registry({ mode: 'oci', auth: 'bearer', users: { ann: PASSWORD } });
  const image = await makeImage({ seed: 61, signed: true });
  await lab.push(image, guarded, 'kept/app');
  const key = 'secrets/kept.tar';
  const flags = ['--src-creds', `ann:${PASSWORD}`, '-v'];
  const { code, text } = await cli(['copy', `${guarded.host}/kept/app:v1`, `s3://${bucket}/${key}`, ...flags]);
  expect(code, text).toBe(0);
  const s3 = new S3({ forcePathStyle: true });
  const head = await s3.headObject({ Bucket: bucket, Key: key });
  const found = await s3.getObject({ Bucket: bucket, Key: key });
  const bytes = (await found.Body?.transformToString('latin1')) ?? '';
  s3.destroy();
  expectNone([text, JSON.stringify(head.Metadata), bytes].join('\n'), [PASSWORD]);
});
