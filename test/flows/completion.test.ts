import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { alteringFront } from '../support/altering-front.ts';
import { commandLine } from '../support/command-line.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';

const lab = await openLab();
const { ecr, registry, environment } = lab.stack;
const HOST = ecr.registryHost;
afterAll(() => lab[Symbol.asyncDispose]());
await mkdir(join(lab.folder, '.docker'));
const auths = { 'ghcr.io': { auth: 'YTpi' }, 'https://index.docker.io/v1/': { auth: 'YTpi' } };
await writeFile(join(lab.folder, '.docker', 'config.json'), JSON.stringify({ auths }));

const transship = commandLine({ ...environment, HOME: lab.folder });

/** The candidates for the last of these words, and whether files may be completed too. */
async function complete(...words: readonly string[]): Promise<{ words: string[]; files: boolean }> {
  const { code, stdout, stderr } = await transship('complete-words', '--', ...words);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const lines = stdout.split('\n');
  expect(lines.pop()).toBe('');
  const files = lines.pop();
  return { words: lines.map((line) => line.split('\t')[0] ?? ''), files: files === ':files' };
}

describe('the words that a shell completes', () => {
  test('are the commands, without the hidden ones', async () => {
    const { words } = await complete('');
    expect(words).toEqual(expect.arrayContaining(['copy', 'backup', 'restore', 'completion']));
    expect(words).not.toContain('complete-words');
    expect((await complete('snapshots', 'd')).words).toEqual(['diff']);
  });

  test('are the options of the command that was chosen, and the values of an option', async () => {
    expect((await complete('copy', 'a', '--dry')).words).toEqual(['--dry-run']);
    expect((await complete('copy', '--src-tls-verify', '')).words).toEqual(['true', 'false']);
    expect((await complete('copy', '--src-tls-verify=f')).words).toEqual(['--src-tls-verify=false']);
    expect(await complete('copy', '--src-authfile', '')).toEqual({ words: [], files: true });
    expect((await complete('completion', '')).words).toEqual(['bash', 'zsh', 'fish']);
  });

  test('are not options after two dashes', async () => {
    expect((await complete('list', '--', '-')).words).toEqual([]);
  });

  test('are the registries that have stored credentials, and other kinds of places', async () => {
    const { words, files } = await complete('copy', '');
    expect(words).toEqual(expect.arrayContaining(['ghcr.io/', 'docker.io/', `${HOST}/`, 's3://', 'store:']));
    expect(files).toBe(true);
    expect((await complete('copy', 'docker://ghc')).words).toEqual(['docker://ghcr.io/']);
    expect(await complete('logout', 'gh')).toEqual({ words: ['ghcr.io'], files: false });
  });

  test('are the repositories of a registry, then the tags of one', async () => {
    await lab.push(await makeImage(), ecr, 'team/app');
    await lab.push(await makeImage({ tag: 'v2' }), ecr, 'team/app');
    await lab.push(await makeImage(), ecr, 'team/web');
    await lab.push(await makeImage(), ecr, 'tools');
    expect((await complete('copy', `${HOST}/te`)).words.sort()).toEqual([`${HOST}/team/app`, `${HOST}/team/web`]);
    expect((await complete('copy', `docker://${HOST}/team/app:`)).words.sort()).toEqual([
      `docker://${HOST}/team/app:v1`,
      `docker://${HOST}/team/app:v2`,
    ]);
    expect((await complete('copy', 'x', `${HOST}/team/app:v2`)).words).toEqual([`${HOST}/team/app:v2`]);
  });

  test('are only names that a shell can be given, whatever a registry lists', async () => {
    await lab.push(await makeImage(), registry, 'team/app');
    const lists: readonly (readonly [string, object])[] = [
      ['/_catalog', { repositories: ['team/app', 'a;touch x', '$(id)', 'te\u001b[31mam'] }],
      ['/tags/list', { name: 'team/app', tags: ['v1', 'v1;touch x', '$(id)', 'v2\tx', 'v3\nx', '漢字'] }],
    ];
    const host = await alteringFront(registry.url, (line, answer) => {
      const list = lists.find(([path]) => line.includes(path))?.[1];
      return list === undefined ? answer : { ...answer, body: Buffer.from(JSON.stringify(list)) };
    });
    expect((await complete('copy', `${host}/`)).words).toEqual([`${host}/team/app`]);
    expect((await complete('copy', `${host}/team/app:`)).words).toEqual([`${host}/team/app:v1`]);
  });

  test('are an empty list, without a message, where a registry does not answer', async () => {
    expect((await complete('copy', '127.0.0.1:1/te')).words).toEqual([]);
    expect((await complete('copy', `${HOST}/no/such:`)).words).toEqual([]);
  });
});
