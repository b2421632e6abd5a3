// The commands in the documents and in the outputs of the stacks, parsed by the AWS CLI: services, commands, options, required arguments.
import { globSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { attempt, CHECKOUT, createWorkspace, type Environment, type Workspace } from '../support/interop-process.ts';

const DOCUMENTS = ['docs/deployment.md', 'docs/jobs.md', 'docs/runbook.md'];
/** Options that Debian's CLI of 2023 does not know yet, by the API reference of their services. */
const NEWER = [/^--no-deletion-protection-enabled$/, /^--by-resource-type=/];
/** A command that it does not know yet: the SDK for JavaScript has it since 3.1158 under these names. */
const NEWER_COMMAND = 'ecr start-replication-backfill --destination … --region …';
/** Version 2, which the documents require: Debian's. Another may be before it in PATH. */
const CLI = '/usr/bin/aws';
/** An endpoint without a listener: a valid command fails to connect to it. */
const NOBODY = 'http://127.0.0.1:9';

test('every `aws` command of the documents and the outputs is valid', async () => {
  await using workspace = await createWorkspace();
  const calls = new Map<string, readonly string[]>();
  for (const lines of [...DOCUMENTS.map(commandsOf), outputs()])
    for (const call of await callsOf(lines, workspace)) calls.set(shapeOf(call), call);
  expect(calls.size).toBeGreaterThan(30);
  expect(calls.delete(NEWER_COMMAND)).toBe(true);

  const wrong: string[] = [];
  const waiting = [...calls.values()];
  // each takes a second of Python
  await Promise.all(
    [0, 1].map(async () => {
      for (let call = waiting.pop(); call !== undefined; call = waiting.pop()) {
        const args = call.filter((argument) => !NEWER.some((option) => option.test(argument)));
        const { stderr } = await attempt(CLI, [...args, '--endpoint-url', NOBODY], {
          env: withoutAccount(workspace),
          cwd: workspace.folder,
        });
        if (!stderr.includes(`Could not connect to the endpoint URL: "${NOBODY}`))
          wrong.push(`aws ${call.join(' ')}\n${stderr}`);
      }
    }),
  );
  expect(wrong).toEqual([]);
}, 400_000);

/** What the CLI checks before it sends a request: one call of each shape is enough. */
function shapeOf(call: readonly string[]): string {
  return call.map((some, i) => (i < 2 || some.startsWith('-') || call[i - 1] === '--query' ? some : '…')).join(' ');
}

/** Blocks of shell, and inline commands that have an option: one session, as a reader types it. */
function commandsOf(document: string): string {
  const text = readFileSync(join(CHECKOUT, document), 'utf8');
  const blocks = [...text.matchAll(/^```sh.*\n([^]*?)^```$/gm)].map(([, block = '']) => block);
  const inText = text.replaceAll(/^```[^]*?^```$/gm, '').matchAll(/`(aws [a-z0-9-]+ [a-z0-9-]+ [^`]*--[^`]*)`/g);
  return [...blocks, ...[...inText].map(([, command = '']) => command)].join('\n');
}

/** The outputs of the reviewed templates, with placeholders for values that CloudFormation computes. */
function outputs(): string {
  const template = z.object({ Outputs: z.record(z.string(), z.object({ Value: z.unknown() })).default({}) });
  return globSync('test/infra/snapshots/*/*.yaml', { cwd: CHECKOUT })
    .flatMap((file) => Object.values(template.parse(parse(readFileSync(join(CHECKOUT, file), 'utf8'))).Outputs))
    .map(({ Value }) => textOf(Value))
    .filter((value) => value.startsWith('aws '))
    .join('\n');
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  const joined = z.object({ 'Fn::Join': z.tuple([z.string(), z.array(z.unknown())]) }).safeParse(value).data;
  if (joined === undefined) return 'known-later';
  const [separator, parts] = joined['Fn::Join'];
  return parts.map(textOf).join(separator);
}

/** The arguments that a shell passes to each `aws` of these lines. Other commands do nothing. */
async function callsOf(lines: string, { env, folder }: Workspace): Promise<readonly (readonly string[])[]> {
  const bin = join(folder, 'bin');
  const calls = join(folder, `calls-${crypto.randomUUID()}`);
  const templates = ['dist/templates', 'dist/portable'];
  for (const name of [bin, calls, ...templates.map((one) => join(folder, one, 'assets'))])
    mkdirSync(name, { recursive: true });
  // some read their input before they send a request
  const inputs = templates.flatMap((one) => [`${one}/assets/code.zip`, `${one}/Transship.yaml`]);
  for (const name of [...inputs, 'request.json']) writeFileSync(join(folder, name), '{}');
  const script = (name: string, body: string): void => {
    writeFileSync(join(bin, name), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  };
  for (const name of ['cdk', 'docker', 'git', 'npm', 'npx']) script(name, 'exit 0');
  // its output is used as a value, or evaluated
  script('aws', `printf '%s\\0' "$@" >"$(mktemp "${calls}/XXXXXXXX")"; echo true`);
  const known = { ...env, PATH: `${bin}:${env['PATH'] ?? ''}`, TRANSSHIP_BUCKET: 'archives', TRANSSHIP_TABLE: 'table' };
  await attempt('timeout', ['30', 'bash', '-c', lines], { env: known, cwd: folder });
  return readdirSync(calls).map((name) => readFileSync(join(calls, name), 'utf8').split('\0').slice(0, -1));
}

function withoutAccount({ env }: Workspace): Environment {
  return {
    ...env,
    AWS_ACCESS_KEY_ID: 'nobody',
    AWS_SECRET_ACCESS_KEY: 'nobody',
    AWS_DEFAULT_REGION: 'us-east-1',
    AWS_REGION: 'us-east-1',
    AWS_MAX_ATTEMPTS: '1',
  };
}
