// The Terraform module. Without terraform installed, only its text is checked.
import { spawnSync } from 'node:child_process';
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { plainText } from '../../infra/synth/plain-synthesizer.ts';
import { SERVICE_PARAMETERS, REGISTRIES_PARAMETERS, REPLICAS_PARAMETERS } from '../../infra/portable/parameters.ts';
import { parseConfig } from '../../worker/rules/config.ts';
import { portableTemplates } from './templates.ts';

const MODULE = resolve('infra/terraform');
const text = globSync('*.tf', { cwd: MODULE })
  .map((file) => readFileSync(join(MODULE, file), 'utf8'))
  .join('\n');
const HAS_TERRAFORM = spawnSync('terraform', ['version']).status === 0;
const AWS_PROVIDER = '6.0.0';

describe('the text of the module', () => {
  test('sets every parameter of the templates, and no others', () => {
    const set = [...text.matchAll(/^ {4}([A-Z]\w+) +=/gm)].map(([, name = '']) => name);
    const known = [SERVICE_PARAMETERS, REGISTRIES_PARAMETERS, REPLICAS_PARAMETERS].flatMap((group) =>
      Object.keys(group),
    );
    expect(known.filter((name) => !set.includes(name))).toEqual([]);
    expect(set.filter((name) => !known.includes(name))).toEqual([]);
  });

  test('describes every variable and output, and uses every variable', () => {
    const variables = [...text.matchAll(/^variable "(\w+)" \{\n {2}(\w+)/gm)];
    expect(variables.length).toBeGreaterThan(30);
    for (const [, name = '', first] of variables) {
      expect(first, name).toBe('description');
      expect(text.match(new RegExp(String.raw`\bvar\.${name}\b`, 'g')), name).not.toBeNull();
    }
    for (const [, name, first] of text.matchAll(/^output "(\w+)" \{\n {2}(\w+)/gm))
      expect(first, name).toBe('description');
  });

  test('has examples that set only its variables', () => {
    const variables = new Set([...text.matchAll(/^variable "(\w+)"/gm)].map(([, name]) => name));
    const examples = globSync('examples/*.tfvars', { cwd: MODULE });
    expect(examples).toHaveLength(2);
    for (const example of examples)
      for (const [, name] of readFileSync(join(MODULE, example), 'utf8').matchAll(/^(\w+) +=/gm))
        expect(variables, example).toContain(name);
  });
});

describe('docs/migrating.md', () => {
  const page = readFileSync('docs/migrating.md', 'utf8');
  const cells = [...page.matchAll(/^\| (.*) \| (.*) \| (.*?) ?\|$/gm)].map(([, there = '', here = '']) => ({
    there,
    here,
  }));
  const named = (column: 'there' | 'here'): readonly string[] =>
    cells.flatMap((row) => [...row[column].matchAll(/`([^`]+)`/g)].map(([, name = '']) => name));

  test('names variables and outputs of the module, and settings, that exist', () => {
    const ours = new Set([...text.matchAll(/^(?:variable|output) "(\w+)"/gm)].map(([, name = '']) => name));
    const snake = named('here').filter((name) => /^[a-z]+(?:_[a-z]+)+$/.test(name));
    expect(snake.length).toBeGreaterThan(15);
    expect(snake.filter((name) => !ours.has(name))).toEqual([]);
    const deployment = readFileSync('docs/deployment.md', 'utf8');
    const settings = named('here').filter((name) =>
      /^(?:access|bucket|registries|vault|worker|alarms|notifications)\./.test(name),
    );
    expect(settings.length).toBeGreaterThan(15);
    expect(settings.filter((name) => !deployment.includes(`\`${name.replace(/:.*/, '')}`))).toEqual([]);
  });

  test('covers every variable of the systems that it replaces', () => {
    const THEIRS = [
      'aws_region project_name s3_bucket_name s3_prefix_filter ecr_repository_name lambda_timeout lambda_memory_size',
      'source_region destination_region secondary_region repository_prefix environment enable_image_scanning',
      'enable_monitoring enable_sns_notifications notification_email production_image_retention_count',
      'testing_image_retention_count untagged_image_retention_days create_iam_roles default_tags',
      'AWS_REGION S3_BUCKET_NAME AWS_ACCOUNT_ID production_repository_uri testing_repository_uri',
      'replication_validation_commands cloudwatch_dashboard_name replication_failure_alarm_name',
      'lambda_cleanup_function_name',
      // flags of other modules
      'enable_replication enable_scanning enable_registry_scanning enable_lifecycle enable_lifecycle_policy enable_vault',
      'scan_on_push create_lifecycle_policy create_registry_replication_configuration use_fips_endpoint',
    ].flatMap((line) => line.split(' '));
    const answered = new Set(named('there'));
    expect(THEIRS.filter((name) => !answered.has(name))).toEqual([]);
    expect(cells.filter(({ here }) => here === '')).toEqual([]);
  });
});

describe.skipIf(!HAS_TERRAFORM)('terraform', () => {
  const folder = mkdtempSync(join(tmpdir(), 'transship-terraform-'));
  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  const templates = join(folder, 'portable');
  const mirror = join(folder, 'mirror');
  const root = join(folder, 'root');

  // the result of `npm run template:portable`
  mkdirSync(join(templates, 'assets'), { recursive: true });
  for (const [id, template] of portableTemplates()) writeFileSync(join(templates, `${id}.yaml`), plainText(template));
  writeFileSync(join(templates, 'assets', '0.zip'), 'code');
  // a file system mirror of providers, with the stand-in for the AWS provider
  const { arch, platform } = process;
  const at = join(
    mirror,
    'registry.terraform.io/hashicorp/aws',
    AWS_PROVIDER,
    `${platform}_${arch === 'x64' ? 'amd64' : arch}`,
  );
  mkdirSync(at, { recursive: true });
  const entry = resolve('test/infra/terraform-provider/provider.ts');
  writeFileSync(
    join(at, `terraform-provider-aws_v${AWS_PROVIDER}`),
    `#!/bin/sh\nexec '${process.execPath}' '${entry}'\n`,
    {
      mode: 0o755,
    },
  );
  writeFileSync(
    join(folder, 'terraformrc'),
    `provider_installation {\n  filesystem_mirror {\n    path = "${mirror}"\n  }\n}\n`,
  );
  cpSync(MODULE, root, { recursive: true });
  const environment = {
    PATH: process.env['PATH'] ?? '',
    HOME: folder,
    TF_CLI_CONFIG_FILE: join(folder, 'terraformrc'),
    TF_DISABLE_PLUGIN_TLS: '1',
    CHECKPOINT_DISABLE: '1',
    TF_IN_AUTOMATION: '1',
    TF_VAR_templates_path: templates,
  };

  function terraform(args: readonly string[], more: Readonly<Record<string, string>> = {}) {
    const env = { ...environment, ...more };
    const { status, stdout, stderr } = spawnSync('terraform', args, { cwd: root, env, encoding: 'utf8' });
    return { status, stdout, stderr };
  }

  function succeeded(args: readonly string[], more: Readonly<Record<string, string>> = {}): string {
    const { status, stdout, stderr } = terraform(args, more);
    expect(status, `${args.join(' ')}\n${stdout}\n${stderr}`).toBe(0);
    return stdout;
  }

  const outputs = z.record(z.string(), z.object({ value: z.unknown() }));
  function apply(example: string, state: string, more: Readonly<Record<string, string>> = {}): string {
    const variables = Object.entries(more).map(([name, value]) => `-var=${name}=${value}`);
    return succeeded([
      'apply',
      '-auto-approve',
      '-input=false',
      '-no-color',
      `-state=${state}`,
      `-var-file=examples/${example}`,
      ...variables,
    ]);
  }

  function applied(
    example: string,
    state: string,
    more: Readonly<Record<string, string>> = {},
  ): Readonly<Record<string, unknown>> {
    apply(example, state, more);
    const shown = outputs.parse(JSON.parse(succeeded(['output', '-json', `-state=${state}`])));
    return Object.fromEntries(Object.entries(shown).map(([name, { value }]) => [name, value]));
  }

  test('finds the module formatted and valid, and plans and applies its examples', () => {
    succeeded(['fmt', '-check', '-recursive', '-diff']);
    succeeded(['init', '-input=false', '-no-color']);
    succeeded(['validate', '-no-color']);

    const all = applied('terraform.tfvars', 'all.tfstate');
    expect(all).toMatchObject({
      cloudwatch_dashboard_name: 'transship-eu-central-1',
      production_repository_uri: '111111111111.dkr.ecr.eu-central-1.amazonaws.com/my-company-apps/production',
      testing_repository_name: 'my-company-apps/testing',
      replication_failure_alarm_name: 'transship-replication-failures',
    });
    expect(all).not.toHaveProperty('pull_role_arn');
    expect(all['replication_validation_commands']).toContain('describe-images --region us-west-2');
    const plan = ['plan', '-input=false', '-no-color', '-detailed-exitcode', '-state=all.tfstate'];
    succeeded([...plan, '-var-file=examples/terraform.tfvars']);
    const { rules } = parseConfig(String(all['rules']));
    expect(rules.map(({ name }) => name)).toEqual(['backup']);

    const objects = applied('objects.tfvars', 'objects.tfstate');
    // Terraform omits an output that is null
    expect(objects).not.toHaveProperty('production_repository_uri');
    const second = parseConfig(String(objects['rules']));
    expect(second.rules.map(({ name, schedule }) => [name, schedule?.cron])).toEqual([
      ['backup', '0 * * * *'],
      ['publish', '0 * * * *'],
    ]);
  });

  test('replicates to no Region with enable_replication = false', () => {
    const more = { enable_replication: 'false', create_repositories: 'true', destination_region: 'us-west-2' };
    const commands = String(applied('objects.tfvars', 'alone.tfstate', more)['replication_validation_commands']);
    expect(commands).not.toContain('us-west-2');
    const state = readFileSync(join(root, 'alone.tfstate'), 'utf8');
    expect(state).toContain('"DestinationRegion": ""');
    expect(state).not.toContain('"name": "replicas"');
  });

  test('writes a schedule as rules have it, where a step begins at a number', () => {
    const more = { schedule_expression: 'cron(5/20 0/6 1/7 1/3 ? *)' };
    const { rules } = parseConfig(String(applied('objects.tfvars', 'steps.tfstate', more)['rules']));
    expect(rules.map(({ schedule }) => schedule?.cron)).toEqual(rules.map(() => '5-59/20 0-23/6 1-31/7 1-12/3 *'));
  });

  test('deletes the code of functions after the stack has another, so that an update can be rolled back', () => {
    apply('objects.tfvars', 'code.tfstate');
    const code = join(templates, 'assets');
    const template = join(templates, 'Transship.yaml');
    const before = readFileSync(template, 'utf8');
    try {
      renameSync(join(code, '0.zip'), join(code, '1.zip'));
      writeFileSync(template, `${before}# changed\n`);
      const steps = apply('objects.tfvars', 'code.tfstate')
        .split('\n')
        .filter((line) => line.includes('complete after') && !line.startsWith('data.'))
        .map((line) => line.split(':')[0]);
      expect(steps.slice(-2)).toEqual(['aws_cloudformation_stack.transship', 'aws_s3_object.assets["0.zip"]']);
    } finally {
      renameSync(join(code, '1.zip'), join(code, '0.zip'));
      writeFileSync(template, before);
    }
  });

  test('refuses variables that do not fit together before anything is created', () => {
    const refused = (variables: Readonly<Record<string, string>>): string => {
      const more = Object.fromEntries(Object.entries(variables).map(([name, value]) => [`TF_VAR_${name}`, value]));
      const { status, stderr } = terraform(['plan', '-input=false', '-no-color'], {
        TF_VAR_worker_image: 'a/b:1',
        ...more,
      });
      expect(status).toBe(1);
      return stderr.replaceAll(/[│\s]+/g, ' ');
    };
    expect(refused({ s3_bucket_name: 'objects' })).toContain(
      's3_bucket_name and ecr_repository_name are given together.',
    );
    expect(refused({ secondary_region: 'eu-west-1' })).toContain('secondary_region needs destination_region.');
    expect(refused({ schedule_expression: 'rate(7 minutes)' })).toContain('schedule_expression is rate(1 hour)');
    expect(refused({ schedule_expression: 'cron(0 2 ? * 2 *)' })).toContain('days of the week have names');
    expect(refused({ project_name: 'Tea' })).toContain('project_name is up to 20 small letters');
  });
});
