// Compares docs/deployment.md and docs/runbook.md with what exists: settings, outputs, commands and sums.
import { spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Template } from 'aws-cdk-lib/assertions';
import { Stack } from 'aws-cdk-lib';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { infraSettings, parseSettings } from '../../infra/settings/settings.ts';
import { REGISTRIES_PARAMETERS, REPLICAS_PARAMETERS, SERVICE_PARAMETERS } from '../../infra/portable/parameters.ts';
import { CALLS } from '../../infra/service/grants.ts';
import { addStacks } from '../../infra/synth/stacks.ts';
import { calculate } from '../../worker/costs/calculate.ts';
import { computeCosts } from '../../worker/costs/costs.ts';
import { ASSUMED, FORMULAS, PRICES } from '../../worker/costs/model.ts';
import { parseDeployedParts } from '../../worker/costs/settings.ts';
import { startTelemetry } from '../../worker/telemetry/telemetry.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { matches } from './filter-pattern.ts';
import { EXAMPLES, app, settingsOf } from './templates.ts';

const DEPLOYMENT = readFileSync('docs/deployment.md', 'utf8');
const RUNBOOK = readFileSync('docs/runbook.md', 'utf8');

/** Blocks of code of one kind: ```sh, or ```sh and a word. */
function blocksOf(text: string, kind: string): readonly string[] {
  return [...text.matchAll(/^```(.*)\n([^]*?)^```$/gm)]
    .filter(([, info = '']) => info === kind || info.startsWith(`${kind} `))
    .map(([, , block = '']) => block);
}

/** The cells of the rows of all tables that begin with a name in backticks. */
function rowsOf(text: string): readonly (readonly string[])[] {
  return [...text.matchAll(/^\| (`.*) \|$/gm)].map(([, row = '']) => row.split(/ \| |\| /).map((cell) => cell.trim()));
}

/** The text below a heading, up to the next heading of the same level. */
function section(text: string, heading: string): string {
  const [, after] = text.split(`\n## ${heading}\n`);
  if (after === undefined) throw new Error(`there is no ${heading}`);
  return after.split(/^## /m)[0] ?? '';
}

const plain = (cell: string): string => cell.replaceAll('`', '');

describe('settings', () => {
  const schema = z.object({
    default: z.unknown().optional(),
    properties: z.record(z.string(), z.unknown()).optional(),
    required: z.array(z.string()).default([]),
    items: z.unknown().optional(),
    oneOf: z.array(z.unknown()).default([]),
  });

  /** The names and defaults of settings without members. A member of several variants has the defaults of each. */
  function settingsIn(node: unknown, path: string, needed: boolean, into: Map<string, Set<string>>): void {
    const { items, oneOf, properties, required, ...rest } = schema.parse(node);
    const listed = schema.safeParse(items).data?.properties;
    const variants = oneOf.map((one) => schema.parse(one)).filter((one) => one.properties !== undefined);
    if (properties === undefined && listed === undefined && variants.length === 0) {
      const { default: value } = rest;
      const shown =
        value === undefined
          ? needed
            ? 'needed'
            : '-'
          : typeof value === 'string' && value !== ''
            ? value
            : JSON.stringify(value);
      into.set(path, (into.get(path) ?? new Set()).add(shown));
    }
    const below = path === '' ? '' : `${path}.`;
    for (const group of [{ properties, required }, ...variants])
      for (const [name, member] of Object.entries(group.properties ?? {}))
        settingsIn(member, `${below}${name}`, group.required.includes(name), into);
    if (listed !== undefined) settingsIn(items, `${path}[]`, true, into);
  }

  test('are all in the tables of the page, with their defaults, and no others', () => {
    const known = new Map<string, Set<string>>();
    settingsIn(z.toJSONSchema(infraSettings, { io: 'input', unrepresentable: 'any' }), '', true, known);
    expect(known.size).toBeGreaterThan(80);
    const told = rowsOf(section(DEPLOYMENT, 'Settings')).map(([name = '', value = '']) => [plain(name), plain(value)]);
    const rows = (pairs: readonly (readonly string[])[]): readonly string[] =>
      pairs.map((pair) => pair.join(': ')).toSorted();
    expect(rows(told)).toEqual(rows([...known].map(([name, values]) => [name, [...values].join(' or ')])));
  });

  test('in the examples of the text are accepted', () => {
    const examples = blocksOf(DEPLOYMENT, 'yaml settings');
    expect(examples).toHaveLength(5);
    for (const example of examples) expect(parseSettings(example, 'docs/deployment.md').account).toBe('111111111111');
  });
});

describe('the first deployment', () => {
  const [running = '', restored = ''] = blocksOf(DEPLOYMENT, 'sh begin');
  const withoutDocuments = (block: string): readonly string[] =>
    block
      .replaceAll(/<<'(\w+)'\n[^]*?\n\1\n/g, '\n')
      .replaceAll(/ \\\n\s*/g, ' ')
      .trim()
      .split('\n');

  test('takes at most five commands to a running system, and ten to a verified restore', () => {
    expect(withoutDocuments(running).length).toBeLessThanOrEqual(5);
    expect(withoutDocuments(running).at(-1)).toBe('npm run deploy');
    expect(withoutDocuments(restored).length).toBeLessThanOrEqual(5);
    expect(withoutDocuments(restored).at(-1)).toMatch(/^npx transship verify --deep .* --against /);
  });

  test('contains no account and no Region to replace, and settings that are accepted', () => {
    expect(running + restored).not.toMatch(/[0-9]{12}|us-east-1/);
    const [, , settings = ''] = /<<'(SETTINGS)'\n([^]*?)\n\1\n/.exec(running) ?? [];
    const here = { account: '111111111111', region: 'us-east-1' };
    expect(parseSettings(settings, 'docs/deployment.md', here)).toMatchObject({ ...here, network: { type: 'public' } });
  });

  test('names the parameters of the portable templates and their defaults', () => {
    const named = new Map<string, string>();
    for (const [, row = ''] of section(DEPLOYMENT, 'Without CDK').matchAll(
      /^\| ((?:Transship\w+ \| )?`[A-Z]\w+` \| .*) \|$/gm,
    )) {
      const cells = row.split(' | ').map(plain);
      const [stack = '', name = '', value = ''] = cells.length > 3 ? cells : ['Transship', ...cells];
      named.set(`${stack} ${name}`, value);
    }
    const groups = {
      Transship: SERVICE_PARAMETERS,
      TransshipRegistries: REGISTRIES_PARAMETERS,
      TransshipReplicas: REPLICAS_PARAMETERS,
    };
    const known = Object.entries(groups).flatMap(([stack, group]) =>
      Object.entries(group).map(([name, declared]) => {
        const { default: value } = { default: undefined, ...declared };
        return [`${stack} ${name}`, value === undefined ? 'needed' : value === '' ? '-' : String(value)] as const;
      }),
    );
    expect(Object.fromEntries(named)).toEqual(Object.fromEntries(known));
  });
});

describe('outputs', () => {
  const tree = app();
  addStacks(
    tree,
    settingsOf(
      "prune: { prefixes: [/] }\nvault: { account: '222222222222', region: eu-west-1 }\nregistries: { repositories: [{ name: a1 }], replication: [{ region: eu-west-1 }] }",
    ),
  );
  const outputs = new Map(
    tree.node.children
      .filter((child) => child instanceof Stack)
      .map((stack) => [stack.node.id, Object.keys(Template.fromStack(stack).findOutputs('*'))]),
  );

  test.each([
    ['docs/deployment.md', DEPLOYMENT],
    ['docs/runbook.md', RUNBOOK],
  ])('named by %s exist', (_, text) => {
    const inCommands = [
      ...blocksOf(text, 'sh')
        .join('\n')
        .matchAll(/\$\(output (\w+)/g),
    ];
    expect(inCommands.length).toBeGreaterThan(0);
    for (const [, name] of inCommands) expect(outputs.get('Transship')).toContain(name);
    const all = [...outputs.values()].flat();
    for (const [, names = ''] of text.matchAll(/outputs? ((?:`\w+`(?:, | and )?)+)/g))
      for (const name of names.match(/\w+(?=`)/g) ?? []) expect(all).toContain(name);
  });

  test('count as many metrics as the alarms use, without those that count by repository', () => {
    const [, counted] = /\((\d+) \+ rules\) \* alarm_metric \+ dashboard/.exec(DEPLOYMENT) ?? [];
    const small = app();
    addStacks(small, settingsOf(''));
    const stack = small.node.findChild('Transship');
    if (!(stack instanceof Stack)) throw new Error('no stack');
    const alarms = Object.values(Template.fromStack(stack).findResources('AWS::CloudWatch::Alarm'));
    // the alarm rule-late looks at one metric of each rule
    expect(alarms.filter(({ Properties }) => JSON.stringify(Properties).includes('GROUP BY rule'))).toHaveLength(1);
    const parts = alarms.map(({ Properties }) => JSON.stringify(Properties).match(/"MetricName"/g)?.length ?? 0);
    expect(Number(counted)).toBe(parts.reduce((sum, some) => sum + some, 0));
  });
});

describe('commands', () => {
  const blocks = [...blocksOf(DEPLOYMENT, 'sh'), ...blocksOf(RUNBOOK, 'sh')];

  test('parse as shell', () => {
    expect(blocks.length).toBeGreaterThan(30);
    for (const block of blocks) {
      const { status, stderr } = spawnSync('bash', ['-n'], { input: block, encoding: 'utf8' });
      expect(status, `${stderr}\n${block}`).toBe(0);
    }
  });

  test('of transship exist, with the flags that they have', () => {
    const text = [DEPLOYMENT, RUNBOOK].join('\n');
    const used = new Map<string, Set<string>>();
    for (const [, typed = ''] of text.matchAll(/npx transship ([^|;#`\n)]*)/g)) {
      const [command = '', sub = ''] = typed.split(' ');
      const name = command.startsWith('-') ? '' : command === 'rules' ? `${command} ${sub}` : command;
      const flags = typed.match(/(?<=^|\s)--?[a-z][a-z-]*/g) ?? [];
      used.set(name, new Set([...(used.get(name) ?? []), ...flags]));
    }
    expect(used.size).toBeGreaterThan(9);
    for (const [name, flags] of used) {
      const help = transship(...(name === '' ? [] : name.split(' ')), '--help');
      for (const flag of flags) expect(help, `${name} ${flag}`).toMatch(new RegExp(`(?:^|[ ,])${flag}(?=[ ,\n])`));
    }
  });

  test('of the runbook search for lines that workers, planners and events write', () => {
    const lines: unknown[] = [];
    const write = (line: string): void => void lines.push(JSON.parse(line));
    const { flush, reportOf } = startTelemetry({ write, level: 'debug', clock: systemClock });
    const report = reportOf(undefined);
    const job = { id: '1', run: 'r', kind: 'backup', title: 'a', rule: 'products' } as const;
    const failed = { type: 'job-failed', job, durationMs: 1, message: '' } as const;
    report({ ...failed, code: 'DENIED', again: false });
    report({ ...failed, code: 'CORRUPT', again: false });
    report({ ...failed, code: 'UNAVAILABLE', again: true });
    report({ type: 'rule-failed', rule: 'products', code: 'DENIED', message: '' });
    report({ type: 'run-late', run: 'r', rule: 'products', dead: false, message: '' });
    const images = { stored: 1, unchanged: 0, archived: 0, failed: 1 };
    const written = { registry: 'r', place: 'store:s3://b/', id: '0', bytes: 1, bytesAdded: 1 };
    report({ type: 'snapshot-written', ...written, images });
    report({ type: 'snapshot-written', ...written, images: { ...images, failed: 0 } });
    report({ type: 'object-failed', key: 'a', code: 'DENIED', message: '' });
    const pruned = {
      place: 'p',
      kind: 'images',
      id: 'sha256:0',
      tags: [],
      action: 'delete',
      bytes: 1,
      reason: '',
    } as const;
    report({ type: 'pruned', ...pruned });
    report({ type: 'prune-failed', place: 'p', code: 'DENIED', message: '' });
    report({ type: 'place-pruned', place: 'p', deleted: 1, kept: 0, left: 0, failed: 1 });
    report({ type: 'note', message: '' });
    const verified = { place: 's3://b/', depth: 'bytes', names: { checked: 1, of: 1 }, hashedBytes: 1 } as const;
    for (const findings of [0, 1]) report({ type: 'verify-ended', ...verified, findings, complete: true });
    report({ type: 'warning', message: 'verify s3://b/: missing: s3://b/a.tar: it is gone' });
    report({ type: 'warning', message: 'something else' });
    flush();
    expect(lines.length).toBeGreaterThan(6);
    const replication = (result: string): object => ({
      source: 'aws.ecr',
      detail: { 'action-type': 'REPLICATE', result },
    });
    const backup = (detail: object): object => ({ source: 'aws.backup', detail });
    lines.push(replication('SUCCESS'), replication('FAILED'));
    lines.push(backup({ state: 'COMPLETED' }), backup({ state: 'COMPLETED', statusMessage: 'some' }));

    const patterns = new Set([...RUNBOOK.matchAll(/--filter-pattern '([^']+)'/g)].map(([, pattern = '']) => pattern));
    const found = [...patterns].map((pattern) => [pattern, lines.filter((line) => matches(pattern, line)).length]);
    expect(Object.fromEntries(found)).toEqual({
      '{ $.level = "error" }': 5,
      '{ ($.event = "job-failed") && ($.again IS FALSE) }': 2,
      '{ ($.event = "job-failed") && ($.code = "CORRUPT") }': 1,
      '{ $.event = "run-late" }': 1,
      '{ $.event = "rule-failed" }': 1,
      '{ ($.event = "snapshot-written") && ($.level = "warn") }': 1,
      '{ ($.event = "verify-ended") && ($.level = "error") }': 1,
      '{ ($.event = "warning") && ($.message = "verify *") }': 1,
      '{ $.event = "object-failed" }': 1,
      '{ $.event = "pruned" }': 1,
      '{ $.event = "place-pruned" }': 1,
      '{ $.event = "prune-failed" }': 1,
      '{ ($.detail.action-type = "REPLICATE") && ($.detail.result != "SUCCESS") }': 1,
      '{ ($.source = "aws.backup") && (($.detail.state != "COMPLETED") || ($.detail.statusMessage = "*")) }': 1,
    });
  });

  test('of the runbook find all resources of a stack: CloudFormation describes a hundred of them at once', () => {
    expect(RUNBOOK).toContain('aws cloudformation list-stack-resources');
    expect(RUNBOOK).not.toContain('describe-stack-resources');
  });

  test('without need of an account run without one', () => {
    const target = mkdtempSync(join(tmpdir(), 'transship-synth-'));
    try {
      const lines = blocksOf(DEPLOYMENT, 'sh offline').flatMap((block) => block.trim().split('\n'));
      // as the page has it: the settings file of the first deployment, which names no account
      const [, , settings = ''] = /<<'(SETTINGS)'\n([^]*?)\n\1\n/.exec(DEPLOYMENT) ?? [];
      writeFileSync(join(target, 'settings.yaml'), settings);
      const env = { ...withoutAccount(), TRANSSHIP_INFRA: join(target, 'settings.yaml') };
      expect(lines).toContain('npm run synth');
      for (const line of lines) {
        // other tests may use dist/ at the same time
        const command = line === 'npm run synth' ? `${line} -- --output ${target}` : line;
        const { status, stderr } = spawnSync('bash', ['-c', command], { encoding: 'utf8', env });
        expect(status, `${line}\n${stderr}`).toBe(0);
      }
      expect(readFileSync(join(target, 'Transship.template.json'), 'utf8')).toContain('AWS::ECS::Service');
      // the function gets no other file that it could import
      const [planner = ''] = globSync(join(target, 'asset.*/index.mjs'));
      const load = `import(${JSON.stringify(planner)}).then(({ handler }) => console.log(typeof handler))`;
      const told = { TRANSSHIP_QUEUE_URL: 'https://sqs/1/jobs', TRANSSHIP_DEAD_LETTER_QUEUE_URL: 'https://sqs/1/dead' };
      const planned = { ...withoutAccount(), ...told, TRANSSHIP_TABLE: 'table', AWS_REGION: 'us-east-1' };
      const loaded = spawnSync(process.execPath, ['-e', load], { cwd: target, encoding: 'utf8', env: planned });
      expect(loaded).toMatchObject({ stdout: 'function\n', stderr: '' });
    } finally {
      rmSync(target, { recursive: true, force: true });
    }
  });

  function transship(...args: readonly string[]): string {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['worker/main/cli.ts', ...args], {
      encoding: 'utf8',
    });
    expect(status, `${args.join(' ')}: ${stderr}`).toBe(0);
    return stdout;
  }

  function withoutAccount(): NodeJS.ProcessEnv {
    const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('AWS_') && name !== 'TRANSSHIP_INFRA');
    return { ...Object.fromEntries(kept), AWS_EC2_METADATA_DISABLED: 'true' };
  }
});

describe('policies in the text', () => {
  test('are JSON', () => {
    for (const block of blocksOf(DEPLOYMENT, 'json')) expect(() => JSON.parse(block)).not.toThrow();
  });

  test('for repositories of another account have every action that is called there, and no other', () => {
    const actions = (text: string): string[] => [...new Set(text.match(/\becr:[A-Z]\w+/g))].toSorted();
    const called = (writes: boolean): string[] =>
      actions(
        JSON.stringify(
          Object.values(CALLS).filter(
            ({ by, ...call }) =>
              (by.repository ?? by.registry ?? by.account) !== undefined && (call.writes ?? false) === writes,
          ),
        ),
      );
    const text = section(DEPLOYMENT, 'Across accounts').split('\n### ')[1] ?? '';
    const [read = '', writes = ''] = text.split('To write, add');
    const [write = '', archived = ''] = writes.split('For rules with `includeArchived`');
    expect(actions(archived)).toEqual(CALLS['ecr.UpdateImageStorageClass']?.actions);
    expect(actions(read)).toEqual(called(false));
    expect(actions(write)).toEqual(called(true).filter((action) => !actions(read).includes(action)));
  });
});

describe('costs', () => {
  const SIZES = [0, 1, 2];
  const tables = rowsOf(section(DEPLOYMENT, 'Costs'));

  test('are computed by `transship cost` with the prices, assumptions and formulas of the page', () => {
    const told = (column: number, isWanted: (cells: readonly string[]) => boolean): Readonly<Record<string, string>> =>
      Object.fromEntries(tables.filter(isWanted).map((cells) => [plain(cells[0] ?? ''), plain(cells[column] ?? '')]));
    const isFormula = (cells: readonly string[]): boolean => cells.length === 6;
    expect(told(1, isFormula)).toEqual(FORMULAS);
    const numbers = (texts: Readonly<Record<string, string>>): Readonly<Record<string, number>> =>
      Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, Number(text.replaceAll(',', ''))]));
    expect(numbers(told(1, (cells) => cells.length === 3))).toEqual(PRICES);
    const smallest = numbers(told(2, (cells) => cells.length === 5));
    expect(smallest).toEqual(ASSUMED);
    expect(computeCosts({}).own).toBeCloseTo(computeCosts(smallest).own);
  });

  test('are estimated from the same settings that a deployment has, with the same defaults', () => {
    const files = EXAMPLES.map((name) => readFileSync(`infra/examples/${name}.yaml`, 'utf8'));
    const smallest = `version: 1\naccount: '111111111111'\nregion: us-east-1\n`;
    const withVault = `${smallest}vault: { account: '222222222222', region: eu-west-1, restoreTest: {} }\n`;
    const withLarge = `${smallest}largeJobs: {}\n`;
    for (const text of [smallest, withVault, withLarge, ...files, ...blocksOf(DEPLOYMENT, 'yaml settings')]) {
      const { alarms, bucket, largeJobs, network, planEveryMinutes, prune, vault, worker } = parseSettings(
        text,
        'test.yaml',
      );
      const { assumptions, ...parts } = parseDeployedParts(text, 'test.yaml');
      expect(parts).toEqual({
        network: network.type,
        prunes: [...(prune?.prefixes ?? []), ...(prune?.stores ?? [])].length > 0,
        pullAlarm: alarms.pullsPerFiveMinutes > 0,
        large: largeJobs !== undefined,
        isCold: bucket.storageClass === 'GLACIER_IR',
        vault: vault === undefined ? undefined : { tested: vault.restoreTest !== undefined },
      });
      expect(assumptions).toMatchObject({
        vcpu: worker.cpu / 1024,
        memory_gib: worker.memoryMiB / 1024,
        old_months: bucket.keepOldVersionsDays / 30,
        ...(network.type === 'own' ? { nat: network.natGateways } : {}),
      });
      if (largeJobs !== undefined)
        expect(assumptions).toMatchObject({
          large_vcpu: largeJobs.cpu / 1024,
          large_memory_gib: largeJobs.memoryMiB / 1024,
          large_disk_gib: largeJobs.diskGiB,
        });
      expect(assumptions.passes).toBe((30 * 24 * 60) / planEveryMinutes);
      if (vault !== undefined)
        expect(assumptions).toMatchObject({
          backup_days: vault.plan.deleteAfterDays,
          copy_days: vault.plan.copyDeleteAfterDays,
        });
      const tree = app();
      addStacks(tree, parseSettings(text, 'test.yaml'));
      const stack = tree.node.findChild('Transship');
      if (!(stack instanceof Stack)) throw new Error('no stack');
      const endpoints = Object.values(Template.fromStack(stack).findResources('AWS::EC2::VPCEndpoint'));
      const interfaces = endpoints.filter(({ Properties }) => Properties.VpcEndpointType === 'Interface').length;
      if (network.type === 'own') expect(interfaces).toBe(assumptions.endpoints);
      else expect(interfaces).toBe(0);
    }
  });

  test('are what the formulas of the page make of its prices and sizes', () => {
    const known = SIZES.map(() => new Map<string, number>());
    const wrong: string[] = [];
    let formulas = 0;
    for (const cells of tables) {
      const name = plain(cells[0] ?? '');
      const isFormula = /[*+-]/.test(cells[1] ?? '') && cells[1]?.startsWith('`') === true;
      const isPrice = cells.length === 3;
      if (isFormula) formulas++;
      for (const size of SIZES) {
        const values = known[size] ?? new Map<string, number>();
        const shown = isPrice ? (cells[1] ?? '') : (cells.slice(-3)[size] ?? '');
        const value = isFormula ? calculate(plain(cells[1] ?? ''), values) : Number(shown.replaceAll(',', ''));
        expect(Number.isFinite(value), `${name}: ${shown}`).toBe(true);
        if (isFormula && formatted(value) !== shown) wrong.push(`${name}, ${size}: ${shown} is ${formatted(value)}`);
        values.set(name, value);
      }
    }
    expect(formulas).toBeGreaterThan(15);
    expect(wrong).toEqual([]);
  });

  function formatted(value: number): string {
    return value >= 10 ? Math.round(value).toLocaleString('en-US') : value.toFixed(2);
  }
});
