// The command as a person types it, in this process; cli.test.ts shows for all commands that the program runs them.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { LocalRegistry } from '../../local/registry/registry.ts';
import { backup } from '../../worker/images/backup.ts';
import { commandLine, type Ended } from '../support/command-line.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, registry, bucket, environment } = lab.stack;
const home = join(lab.folder, 'home');
await mkdir(home);

const prune = async (...args: readonly string[]): Promise<Ended> => transship('prune', ...args);

const transship = commandLine({ ...environment, HOME: home });

/** Images of one platform, one for each tag. */
async function push(where: LocalRegistry, repository: string, ...tags: readonly string[]): Promise<void> {
  for (const [seed, tag] of tags.entries()) {
    const image = await makeImage({ seed: seed + 1, tag, layers: [200], platforms: ['linux/amd64'] });
    await lab.push(image, where, repository);
  }
}

const tagsOf = async (where: LocalRegistry, repository: string): Promise<readonly string[]> =>
  (await Array.fromAsync(lab.view(where, repository).tags())).sort();

describe('transship prune', () => {
  test('prints the plan with reasons and totals, and deletes nothing', async () => {
    await push(ecr, 'command/app', 'v1', 'v2', 'v3');
    const { code, stdout } = await prune(`${ecr.registryHost}/command/*`, '--keep-last', '1', '--keep-tags', 'v1');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^delete +sha256:[0-9a-f]{12} +v2 +[\d.]+ \w+ +\S/m);
    expect(stdout).toMatch(/^keep +sha256:[0-9a-f]{12} +v1 .* keepTags v1$/m);
    expect(stdout).toMatch(/^would delete 1 item of .*, untag 0, keep 2\nnothing was deleted: pass --yes/m);
    expect(await tagsOf(ecr, 'command/app')).toEqual(['v1', 'v2', 'v3']);
  });

  test('deletes with --yes, and reports each item on stderr', async () => {
    await push(registry, 'command/yes', 'v1', 'pr-1', 'pr-2');
    const { code, stdout, stderr } = await prune(`${registry.host}/command/yes`, '--delete-tags', 'pr-*', '--yes');
    expect({ code, stdout }).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^deleted 2 items of .*kept 1\n$/),
    });
    expect(stderr).toMatch(/deleted \S+\/command\/yes sha256:\S+ pr-1: /);
    expect(await tagsOf(registry, 'command/yes')).toEqual(['v1']);
  });

  test('reports that images without a tag are hidden in a registry that lists only tags', async () => {
    await push(registry, 'command/note', 'v1');
    const { stderr } = await prune(`${registry.host}/command/note`, '--untagged-after-days', '1');
    expect(stderr).toContain(
      `${registry.host} lists nothing but tags: images that no tag leads to are not found there`,
    );
  });

  test('deletes what a reviewed plan names, and refuses the plan once the registry has changed', async () => {
    await push(ecr, 'command/plan', 'v1', 'v2', 'pr-1', 'pr-2');
    const file = join(lab.folder, 'plan.json');
    const args = [`${ecr.registryHost}/command/plan`, '--delete-tags', 'pr-*'];
    expect(await prune(...args, '--plan-out', file)).toMatchObject({ code: 0 });
    expect((await prune('--plan', file)).stderr).toContain(`transship prune ${ecr.registryHost}/command/plan … --plan`);
    // a tag that the reviewer did not see
    await push(ecr, 'command/plan', 'v1', 'v2', 'new');
    const refused = await prune(...args, '--plan', file);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/command\/plan has moved since the plan was made: .*make a new plan/);
    expect(await tagsOf(ecr, 'command/plan')).toEqual(['new', 'pr-1', 'pr-2', 'v1', 'v2']);

    expect(await prune(...args, '--plan-out', file)).toMatchObject({ code: 0 });
    await push(ecr, 'command/plan', 'v1', 'v2', 'pr-1', 'pr-2', 'pr-3');
    expect(await prune(...args, '--plan', file)).toMatchObject({ code: 0 });
    expect(await tagsOf(ecr, 'command/plan')).toEqual(['new', 'pr-3', 'v1', 'v2']);
  });

  test('refuses a plan that was changed by hand, one of another place, and one with other policies', async () => {
    await push(ecr, 'command/hand', 'v1', 'pr-1');
    const file = join(lab.folder, 'hand.json');
    const place = `${ecr.registryHost}/command/hand`;
    await prune(place, '--delete-tags', 'pr-*', '--plan-out', file);
    const other = await prune(`${registry.host}/command/yes`, '--delete-tags', 'pr-*', '--plan', file);
    expect(other).toMatchObject({ code: 2, stderr: expect.stringContaining('which is not one of the places given') });
    const policies = await prune(place, '--delete-tags', 'v*', '--keep-last', '1', '--plan', file);
    expect(policies).toMatchObject({ code: 2, stderr: expect.stringContaining('made with other policies') });
    await writeFile(file, (await readFile(file, 'utf8')).replaceAll('"keep"', '"delete"'));
    const changed = await prune(place, '--delete-tags', 'pr-*', '--plan', file);
    expect(changed).toMatchObject({ code: 2, stderr: expect.stringContaining('changed after it was written') });
    expect(await tagsOf(ecr, 'command/hand')).toEqual(['pr-1', 'v1']);
  });

  test('deletes nothing of a repository that the policy would empty, unless that is allowed', async () => {
    await push(ecr, 'command/empty', 'pr-1');
    const args = [`${ecr.registryHost}/command/empty`, '--delete-tags', 'pr-*', '--yes'];
    const refused = await prune(...args);
    expect(refused.code).toBe(1);
    expect(refused.stdout).toMatch(/refused: .*command\/empty: the policy would keep nothing: --allow-empty/);
    expect(await tagsOf(ecr, 'command/empty')).toEqual(['pr-1']);
    expect(await prune(...args, '--allow-empty')).toMatchObject({ code: 0 });
    expect(await tagsOf(ecr, 'command/empty')).toEqual([]);
  });

  test('keeps images without a whole archive where a backup is required', async () => {
    await push(ecr, 'command/backed', 'v1', 'pr-1', 'pr-2', 'pr-3');
    const { backends, options } = lab.session();
    for (const tag of ['pr-1', 'pr-2'])
      await backup(
        { from: `${ecr.registryHost}/command/backed:${tag}`, to: `s3://${bucket}/backed/` },
        backends,
        options,
      );
    // one that can no longer be restored
    const [first = ''] = await Array.fromAsync(backends.bucket(bucket).list('backed/'), ({ key }) => key);
    const { metadata } = await backends.bucket(bucket).stat(first);
    await backends.bucket(bucket).write(first, Buffer.alloc(10_240), { metadata });
    const args = [`${ecr.registryHost}/command/backed`, '--delete-tags', 'pr-*', '--yes'];
    const { code, stdout, stderr } = await prune(...args, '--require-backup', `s3://${bucket}/backed/`);
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringMatching(/^deleted 1 item /) });
    expect(stderr).toContain(`s3://${bucket}/${first} does not count as a backup`);
    expect(stderr).toMatch(/^s3:\/\/\S+ is whole: a backup of sha256:[0-9a-f]{12}$/m);
    expect(stderr).not.toMatch(/^(?:copied|tagged|planned) /m);
    expect(await tagsOf(ecr, 'command/backed')).toEqual(['pr-1', 'pr-3', 'v1']);
  });

  test('keeps an image whose signature is in no backup', async () => {
    await lab.push(await makeImage({ seed: 5, tag: 'pr-1', layers: [200], signed: true }), ecr, 'command/signed');
    await push(ecr, 'command/signed', 'v1');
    const { backends, options } = lab.session();
    const from = `${ecr.registryHost}/command/signed:pr-1`;
    const args = [`${ecr.registryHost}/command/signed`, '--delete-tags', 'pr-*'];
    await backup({ from, to: `s3://${bucket}/unsigned/`, referrers: false }, backends, options);
    const unsigned = await prune(...args, '--require-backup', `s3://${bucket}/unsigned/`);
    expect(unsigned.stdout).toMatch(/^keep .* pr-1 .* no verified backup$/m);
    await backup({ from, to: `s3://${bucket}/signed/` }, backends, options);
    const signed = await prune(...args, '--require-backup', `s3://${bucket}/signed/`);
    expect(signed.stdout).toMatch(/^would delete 8 items /m);
  });

  test('deletes a reviewed image with more parts than a run deletes', async () => {
    await lab.push(await makeImage({ seed: 6, tag: 'pr-1', layers: [200] }), ecr, 'command/large');
    await push(ecr, 'command/large', 'v1');
    const file = join(lab.folder, 'large.json');
    const args = [`${ecr.registryHost}/command/large`, '--delete-tags', 'pr-*'];
    await prune(...args, '--plan-out', file);
    const { stdout, stderr } = await prune(...args, '--max-deletes', '2', '--plan', file);
    expect({ stdout, stderr }).toMatchObject({ stdout: expect.stringMatching(/^deleted 3 items /) });
  });

  test('runs the prune rules of a file, or only those that --rule names', async () => {
    await push(ecr, 'file/a', 'v1', 'pr-1');
    await push(registry, 'file/b', 'v1', 'pr-1');
    const file = join(lab.folder, 'rules.yaml');
    const rule = (name: string, place: string, more = ''): string =>
      `  - name: ${name}\n    prune:\n      at: ${place}\n      deleteTags: [pr-*]\n      keepDays: 1\n${more}`;
    const rules = [
      rule('kept', `${ecr.registryHost}/file/*`),
      rule('plain', `${registry.host}/file/*`).replace('      keepDays: 1\n', '      keepTags: [v1]\n'),
    ];
    await writeFile(file, `version: 1\nrules:\n${rules.join('')}`);
    const planned = await prune('-f', file);
    expect(planned).toMatchObject({ code: 0 });
    expect(planned.stdout).toMatch(/^rule kept\n[^]*keepDays 1[^]*\n\nrule plain\n/);
    expect(await prune('-f', file, '--rule', 'plain', '--yes')).toMatchObject({ code: 0 });
    expect(await tagsOf(registry, 'file/b')).toEqual(['v1']);
    expect(await tagsOf(ecr, 'file/a')).toEqual(['pr-1', 'v1']);
    expect((await prune('-f', file, '--rule', 'other')).stderr).toMatch(/no rule "other" that prunes/);
    expect((await prune('-f', file, '--keep-last', '1')).stderr).toMatch(/come from the file/);
    expect((await prune()).stderr).toMatch(/name a place to prune, or a rules file/);
  });

  test('deletes at most the given number', async () => {
    await push(ecr, 'command/many', 'v1', 'pr-1', 'pr-2', 'pr-3');
    const args = [`${ecr.registryHost}/command/many`, '--delete-tags', 'pr-*', '--max-deletes', '2', '--yes'];
    expect((await prune(...args)).stdout).toMatch(/^deleted 2 items of .*, 1 left for the next run\n$/);
    expect((await prune(...args)).stdout).toMatch(/^deleted 1 item of .*kept 1\n$/);
  });

  test('deletes nothing of a repository whose list is incomplete, and continues with the others', async () => {
    await push(ecr, 'half/a', 'v1', 'pr-1');
    await push(ecr, 'half/b', 'v1', 'pr-1');
    ecr.faults.add({ operation: 'DescribeImages' }, { kind: 'answer', status: 400, code: 'AccessDeniedException' });
    const { code, stdout } = await prune(`${ecr.registryHost}/half/*`, '--delete-tags', 'pr-*', '--yes');
    expect(code).toBe(1);
    expect(stdout).toMatch(/^refused: \S+half\/a: the list is not complete: .*DescribeImages/m);
    expect(await tagsOf(ecr, 'half/a')).toEqual(['pr-1', 'v1']);
    expect(await tagsOf(ecr, 'half/b')).toEqual(['v1']);
  });

  test('reports a name that does not exist as missing, not as an incomplete list', async () => {
    const repository = `${ecr.registryHost}/command/mistyped`;
    const { code, stdout } = await prune(repository, '--keep-last', '1');
    expect(code).toBe(1);
    expect(stdout).toContain(`there is no repository ${repository}: check its name`);
    expect(stdout).toMatch(/\nthere is nothing to delete\n$/);
    expect((await prune(`s3://${bucket}/mistyped/`, '--keep-last', '1')).stdout).toMatch(
      /^there is no archive below s3:\/\/\S+\/mistyped\/: check the name\n/,
    );
  });

  test('truncates tags that are digests, so that a line of the table fits', async () => {
    await lab.push(await makeImage({ signed: true, tag: 'v1' }), ecr, 'command/cut');
    const { stdout } = await prune(`${ecr.registryHost}/command/cut`, '--keep-last', '1');
    expect(stdout).toMatch(
      /^keep +sha256:[0-9a-f]{12} +sha256-[0-9a-f]{12}…\.sig .* signature of sha256:[0-9a-f]{12}$/m,
    );
    expect(stdout.split('\n').filter((line) => line.length > 100)).toEqual([]);
  });

  test.each([
    [
      'a name without a host',
      ['app/*', '--keep-last', '1'],
      /expected HOST, HOST\/repositories\*, s3:\/\/bucket\/prefix\//,
    ],
    [
      'a host without repositories',
      ['127.0.0.1:5000', '--keep-last', '1'],
      /name its repositories too: 127\.0\.0\.1:5000\/\*/,
    ],
    ['a tag', [`${registry.host}/app:v1`, '--keep-last', '1'], /it names a tag/],
    ['an archive', ['s3://bucket/a.tar', '--keep-last', '1'], /a prefix of archives ends in "\/"/],
    ['no policy that keeps', [`${registry.host}/*`, '--delete-tags', '*'], /matches every tag and no rule keeps one/],
    ['a broken expression', [`${registry.host}/*`, '--keep-tags', '/(/'], /keepTags/],
    ['a number that is too low', [`${registry.host}/*`, '--keep-last', '0'], /expected a whole number from 1/],
    ['--yes with --plan', [`${registry.host}/*`, '--yes', '--plan', 'x'], /cannot be used with option/],
    [
      'a backup in a registry',
      [`${registry.host}/*`, '--keep-last', '1', '--require-backup', `${registry.host}/x`],
      /holds no archives/,
    ],
  ])('refuses %s before any request', async (_, args, message) => {
    const { code, stderr } = await prune(...args);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(message) });
  });
});

describe('transship publish and extract', () => {
  test('a missing folder leaves latest alone, and is not taken for an emptied one', async () => {
    const [folder, to] = [join(lab.folder, 'documents'), `${ecr.registryHost}/command/documents`];
    await mkdir(folder);
    await writeFile(join(folder, 'note.txt'), 'one');
    expect(await transship('publish', folder, to)).toMatchObject({ code: 0 });
    expect(await transship('publish', `${folder}s`, to)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/there is no such folder: check the name/),
    });
    expect((await transship('publish', join(folder, 'note.txt'), to)).stderr).toMatch(/it is not a folder/);
    expect((await transship('inspect', to)).stdout).toMatch(/^snapshot +1 object of 3 B in folder, made \S+$/m);
    const into = join(lab.folder, 'extracted');
    const planned = await transship('extract', to, into, '--dry-run');
    expect(planned.stderr).toMatch(/^would extract note.txt/m);
    expect(planned.stdout).toMatch(/would be: written 1, .*\n3 B would be written in/);
    expect((await transship('extract', to, into)).stdout).toMatch(/^extracted .*\n.*\nwritten 1,/);
    await writeFile(join(into, 'note.txt'), 'two');
    expect(await transship('extract', to, into)).toMatchObject({ code: 1, stdout: expect.stringMatching(/^failed /) });
  });
});
