import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { parseConfig } from '../../worker/rules/config.ts';
import { execute } from '../../worker/main/program.ts';

const folder = await mkdtemp(join(tmpdir(), 'transship-init-'));
afterAll(async () => rm(folder, { recursive: true, force: true }));
const ECR = '111111111111.dkr.ecr.us-east-1.amazonaws.com';

interface Ended {
  readonly code: number;
  readonly output: string;
  readonly asked: readonly string[];
}

/** Runs `transship init`, at a terminal where a person types `answers`. */
async function init(args: readonly string[], answers?: readonly string[]): Promise<Ended> {
  let output = '';
  const asked: string[] = [];
  const screen = { write: (text: string) => void (output += text), terminal: false, columns: 120 };
  const ask = async (question: string): Promise<string> => answers?.[asked.push(question) - 1] ?? '';
  const code = await execute({
    argv: ['node', 'transship', 'init', ...args],
    env: { HOME: folder },
    stdout: screen,
    stderr: screen,
    stop: new AbortController().signal,
    ...(answers === undefined ? {} : { ask }),
  });
  return { code, output, asked };
}

let files = 0;
const newFile = (): string => join(folder, `rules-${++files}.yaml`);

async function rulesIn(file: string): Promise<readonly unknown[]> {
  return parseConfig(await readFile(file, 'utf8')).rules;
}

test.each([
  [ECR, 'store:s3://example-backups/store/', ['backup', 'verify']],
  [`${ECR}/team/*`, 's3://example-backups/{repository}/{tag}.tar', ['backup', 'verify']],
  ['docker.io/library/alpine', `docker://${ECR}/hub/`, ['mirror']],
  ['registry.example:5000/{a,b}', 'registry.example/copies', ['mirror']],
])('writes rules from %s to %s that can be applied', async (from, to, names) => {
  const file = newFile();
  const { code, output } = await init(['--registry', from, '--place', to, '-f', file]);
  expect({ code, output }).toEqual({ code: 0, output: expect.stringContaining(`rules ${names.join(', ')}`) as string });
  expect(await rulesIn(file)).toMatchObject(names.map((name) => ({ name })));
});

test('copies every registry that is named, and keeps none silently out', async () => {
  const file = newFile();
  const both = [`${ECR}/team/*`, 'docker.io/library/alpine'];
  const flags = both.flatMap((from) => ['--registry', from]);
  expect((await init([...flags, '--place', 'store:s3://example-backups/store/', '-f', file])).code).toBe(0);
  expect(await rulesIn(file)).toMatchObject([{ name: 'backup', from: both }, { name: 'verify' }]);
});

test('suggests a prune that can be applied once it is no longer a comment', async () => {
  const file = newFile();
  await init(['--registry', ECR, '--place', 'store:s3://example-backups/store/', '-f', file]);
  const text = await readFile(file, 'utf8');
  await writeFile(file, text.replace(/^ {2}# (?=- name: prune|  )/gm, '  '));
  expect(await rulesIn(file)).toMatchObject([{ name: 'backup' }, { name: 'verify' }, { name: 'prune' }]);
});

test('asks at a terminal for whatever no flag gives', async () => {
  const file = newFile();
  const { code, asked } = await init(['-f', file], [` ${ECR} `, 'store:s3://example-backups/store/']);
  expect([code, asked.length]).toEqual([0, 2]);
  expect(await rulesIn(file)).toHaveLength(2);
});

test('never replaces a file without --force, and asks nothing first', async () => {
  const file = newFile();
  await writeFile(file, 'mine\n');
  const flags = ['--registry', ECR, '--place', 's3://example-backups/', '-f', file];
  const refused = await init(['-f', file], []);
  expect([refused.code, refused.asked]).toEqual([1, []]);
  expect(refused.output).toContain('the file exists: pass --force');
  expect(await readFile(file, 'utf8')).toBe('mine\n');
  expect((await init([...flags, '--force'])).code).toBe(0);
  expect(await rulesIn(file)).toHaveLength(2);
});

test.each([
  [[], 'there is no terminal to ask at: pass --registry'],
  [['--registry', ECR], 'pass --place'],
  [
    ['--registry', ECR, '--place', 's3://example-backups/', '--schedule', '61 * * * *'],
    '--schedule: "61 * * * *" is not',
  ],
  [['--registry', ECR, '--place', 's3://one/', '--place', 's3://two/'], 'it is given twice: write one place'],
  [
    ['--registry', '11111111111.dkr.ecr.us-east-1.amazonaws.com', '--place', 's3://one/'],
    'has 11 digits instead of 12',
  ],
  [['--registry', 'not a name', '--place', 's3://example-backups/'], 'one fault\n--registry: "not a name" is not'],
  [['--registry', ECR, '--place', 's3://not a bucket/'], 'one fault\n--place: "s3://not a bucket/" is not'],
])('writes nothing and exits 2 for the flags %j', async (flags, message) => {
  const file = newFile();
  const { code, output } = await init([...flags, '-f', file]);
  expect([code, output]).toEqual([2, expect.stringContaining(message)]);
  await expect(readFile(file, 'utf8')).rejects.toThrow('ENOENT');
});
