// The workflows that check and release, and the refusals of `npm run release`. `.ci/run` makes a whole release without publishing it.
import { spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';

const step = z.strictObject({
  id: z.string().optional(),
  uses: z.string().optional(),
  run: z.string().optional(),
  with: z.record(z.string(), z.unknown()).optional(),
  env: z.record(z.string(), z.string()).optional(),
});
const workflow = z.looseObject({
  on: z.unknown(),
  permissions: z.record(z.string(), z.string()),
  jobs: z.record(z.string(), z.looseObject({ 'timeout-minutes': z.number(), steps: z.array(step).min(1) })),
});
const { scripts, version } = z
  .object({ scripts: z.record(z.string(), z.string()), version: z.string() })
  .parse(JSON.parse(readFileSync('package.json', 'utf8')));

function refused(tag: string): { readonly status: number | null; readonly stderr: string } {
  const { status, stderr } = spawnSync(process.execPath, ['release.ts', tag], { encoding: 'utf8' });
  return { status, stderr };
}

describe.each(globSync('.github/workflows/*.yml'))('%s', (file) => {
  const text = readFileSync(file, 'utf8');
  const { jobs, permissions } = workflow.parse(parse(text));
  const steps = Object.values(jobs).flatMap((job) => job.steps);

  test('may read the repository and nothing else, unless a job asks for more', () => {
    expect(permissions).toEqual({ contents: 'read' });
    // its credentials for publishing belong to the workflow itself: no secret is stored anywhere
    expect(text).not.toContain('secrets.');
  });

  test('runs what a shell reads, and scripts that exist', () => {
    const lines = steps.flatMap(({ run }) => (run === undefined ? [] : [run]));
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) {
      expect(spawnSync('bash', ['-n'], { input: line }).status, line).toBe(0);
      // an expression in a script is code that anyone who names a branch or a tag can write
      expect(line).not.toContain('${{');
      const [, script] = /^npm run ([\w:]+)/.exec(line) ?? [];
      if (script !== undefined) expect(Object.keys(scripts)).toContain(script);
    }
  });

  test('uses actions by a version, and leaves no credentials in the checkout', () => {
    for (const { uses, with: given } of steps) {
      if (uses === undefined) continue;
      expect(uses).toMatch(/^[\w-]+\/[\w-]+@(?:v\d+|[0-9a-f]{40})$/);
      if (uses.startsWith('actions/checkout@')) expect(given).toEqual({ 'persist-credentials': false });
    }
  });
});

test('the image is published by the version without the v of the tag, under a name without capitals', () => {
  const { jobs } = workflow.parse(parse(readFileSync('.github/workflows/release.yml', 'utf8')));
  const steps = jobs['image']?.steps ?? [];
  const folder = mkdtempSync(join(tmpdir(), 'transship-release-test-'));
  try {
    const output = join(folder, 'output');
    const env = {
      ...process.env,
      GITHUB_OUTPUT: output,
      GITHUB_REF_NAME: 'v1.2.3',
      GITHUB_REPOSITORY: 'Owner/Transship',
    };
    for (const { id, run } of steps)
      if (id === 'image' && run !== undefined) spawnSync('bash', ['-ec', run], { env, stdio: 'inherit' });
    expect(readFileSync(output, 'utf8')).toBe('name=ghcr.io/owner/transship\nversion=1.2.3\n');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const given = steps.map((one) => JSON.stringify(one.with ?? {})).join('\n');
  expect(given).toContain('"${{ steps.image.outputs.name }}:${{ steps.image.outputs.version }}"');
  expect(given).not.toMatch(/github\.(?:ref_name|repository)\b/);
});

test('the package names the repository that publishes it: npm refuses provenance without', () => {
  const { jobs } = workflow.parse(parse(readFileSync('.github/workflows/release.yml', 'utf8')));
  const lines = (jobs['files']?.steps ?? []).map(({ run = '' }) => run);
  const names = lines.findIndex((line) => line.startsWith('npm pkg set '));
  expect(names).toBeGreaterThan(-1);
  expect(names).toBeLessThan(lines.findIndex((line) => line.startsWith('npm run release')));
  const folder = mkdtempSync(join(tmpdir(), 'transship-release-test-'));
  try {
    writeFileSync(join(folder, 'package.json'), '{}');
    const github = { GITHUB_SERVER_URL: 'https://github.com', GITHUB_REPOSITORY: 'owner/transship' };
    spawnSync('bash', ['-ec', lines[names] ?? ''], { cwd: folder, env: { ...process.env, ...github } });
    expect(JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))).toEqual({
      repository: { type: 'git', url: 'git+https://github.com/owner/transship.git' },
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a release is refused for a tag of another version, and while the changelog marks the version as unreleased', () => {
  expect(refused('v999.0.0')).toEqual({
    status: 1,
    stderr: `release v999.0.0: package.json has version ${version}\n`,
  });
  if (readFileSync('CHANGELOG.md', 'utf8').includes(`## ${version} (unreleased)`))
    expect(refused(`v${version}`)).toEqual({
      status: 1,
      stderr: `release v${version}: CHANGELOG.md calls ${version} unreleased\n`,
    });
});
