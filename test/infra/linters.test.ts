// Checks the templates with cfn-lint and checkov, linters of other projects. `.ci/run` installs them.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, delimiter, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { addPortableStacks } from '../../infra/portable/stacks.ts';
import { readSettings } from '../../infra/settings/settings.ts';
import { addStacks } from '../../infra/synth/stacks.ts';
import { app, EXAMPLES } from './templates.ts';

const reasons = z.record(z.string(), z.strictObject({ only: z.string().optional(), why: z.string().min(20) }));
const baseline = z
  .strictObject({ 'cfn-lint': reasons, checkov: reasons })
  .parse(parse(readFileSync('test/infra/linters-baseline.yaml', 'utf8')));

const env = {
  PATH: [process.env['TRANSSHIP_LINTERS'], process.env['PATH']].filter(Boolean).join(delimiter),
  // neither linter uses the network
  HOME: tmpdir(),
  BC_SKIP_MAPPING: 'TRUE',
};

function has(linter: string): boolean {
  return spawnSync(linter, ['--version'], { env }).status === 0;
}

const folder = mkdtempSync(join(tmpdir(), 'transship-linters-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Writes the templates of all examples and the portable ones to the folder. */
function written(): readonly string[] {
  return [...EXAMPLES, 'portable'].flatMap((example) => {
    const tree = app();
    if (example === 'portable') addPortableStacks(tree);
    else addStacks(tree, readSettings(`infra/examples/${example}.yaml`));
    return tree.synth().stacks.map(({ id, template }) => {
      const file = join(folder, `${example}-${id}.json`);
      writeFileSync(file, JSON.stringify(template));
      return file;
    });
  });
}

interface Finding {
  readonly rule: string;
  readonly template: string;
}

/** Findings that the baseline does not explain, and explained findings that are missing. */
function unexplained(linter: keyof typeof baseline, found: readonly Finding[]): readonly string[] {
  const known = baseline[linter];
  const missing = found.filter(
    ({ rule, template }) => (known[rule]?.only ?? template) !== template || !(rule in known),
  );
  const stale = Object.keys(known).filter((rule) => found.every((one) => one.rule !== rule));
  return [
    ...missing.map(({ rule, template }) => `${template}: ${rule} has no reason`),
    ...stale.map((rule) => `${rule} is found no more`),
  ];
}

const isNeeded = process.env['TRANSSHIP_LINTERS'] !== undefined;

describe.skipIf(!isNeeded && !(has('cfn-lint') && has('checkov')))('linters', () => {
  const files = written();

  test('of CloudFormation find nothing that the baseline does not explain', () => {
    const { stdout, stderr } = spawnSync('cfn-lint', ['--format', 'json', ...files], { env, encoding: 'utf8' });
    const findings = z.array(z.object({ Filename: z.string(), Rule: z.object({ Id: z.string() }) }));
    expect(stderr).toBe('');
    const found = findings.parse(JSON.parse(stdout));
    expect(
      unexplained(
        'cfn-lint',
        found.map(({ Filename, Rule }) => ({ rule: Rule.Id, template: basename(Filename, '.json') })),
      ),
    ).toEqual([]);
  });

  test('of security find nothing that the baseline does not explain', () => {
    const asked = ['--directory', folder, '--framework', 'cloudformation', '--quiet', '--compact', '--output', 'json'];
    const { stdout, stderr } = spawnSync('checkov', asked, { env, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
    const report = z.object({
      summary: z.object({ passed: z.number(), parsing_errors: z.literal(0) }),
      results: z.object({ failed_checks: z.array(z.object({ check_id: z.string(), file_path: z.string() })) }),
    });
    const { results, summary } = report.parse(JSON.parse(stdout === '' ? stderr : stdout));
    expect(summary.passed).toBeGreaterThan(500);
    expect(
      unexplained(
        'checkov',
        results.failed_checks.map(({ check_id: rule, file_path: path }) => ({
          rule,
          template: basename(path, '.json'),
        })),
      ),
    ).toEqual([]);
  });
});
