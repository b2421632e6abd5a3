import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { runCommand, type Ended } from '../support/command-line.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';

const lab = await openLab();
afterAll(() => lab[Symbol.asyncDispose]());
const { ecr, registry, environment } = lab.stack;
const FROM = ecr.registryHost;
const TO = registry.registryHost;

async function copy(args: readonly string[], stdin?: string): Promise<Ended> {
  const env = { ...environment, HOME: lab.folder };
  return runCommand(['copy', ...args], { env, ...(stdin === undefined ? {} : { stdin }) });
}

/** The images below a prefix of the target, without signatures. */
async function imagesBelow(prefix: string): Promise<readonly string[]> {
  const client = lab.client(registry);
  const found: string[] = [];
  for await (const name of client.repositories(`${prefix}/`))
    for await (const tag of client.repository(name).tags()) found.push(`${name.slice(prefix.length + 1)}:${tag}`);
  return found.filter((name) => !name.includes('sha256-')).sort();
}

/** Fills the source; called by the first test, because a push closes its client with the test. */
async function havingImages(): Promise<void> {
  for (const tag of ['1.0.0', '1.1.0', '1.10.0', '2.0.0', 'latest'])
    await lab.push(await makeImage({ tag }), ecr, 'team/app');
  await lab.push(await makeImage({ tag: '1.0.0', signed: true }), ecr, 'team/web');
  await lab.push(await makeImage({ tag: '1.0.0' }), ecr, 'other/tool');
}
let images: Promise<void> | undefined;
beforeEach(async () => (images ??= havingImages()));

describe('copy of several images', () => {
  test('copies a pattern of repositories into a prefix, and prints the outcome of each', async () => {
    const { code, stdout, stderr } = await copy([`${FROM}/{team,other}/*:1.0.0`, `${TO}/all/`]);
    expect({ code, lines: stderr.match(/^copied .*/gm)?.length }).toEqual({ code: 0, lines: 3 });
    expect(stdout).toContain('3 copied, 0 unchanged, 0 failed');
    expect(await imagesBelow('all')).toEqual(['other/tool:1.0.0', 'team/app:1.0.0', 'team/web:1.0.0']);
    const again = await copy([`${FROM}/{team,other}/*:1.0.0`, `${TO}/all/`]);
    expect(again.stdout).toMatch(/^unchanged /m);
  });

  test('copies the highest versions of a range, chosen as rules choose them', async () => {
    const args = [`${FROM}/team/*`, `${TO}/newest/`, '--semver', '<2', '--latest', '2'];
    expect(await copy(args)).toMatchObject({ code: 0 });
    expect(await imagesBelow('newest')).toEqual(['team/app:1.1.0', 'team/app:1.10.0', 'team/web:1.0.0']);
  });

  test('copies tags by pattern of one repository without a tag', async () => {
    expect(await copy([`${FROM}/team/app`, `${TO}/tags/`, '--tags', '1.1*', '--tags', 'latest'])).toMatchObject({
      code: 0,
    });
    expect(await imagesBelow('tags')).toEqual(['team/app:1.1.0', 'team/app:1.10.0', 'team/app:latest']);
  });

  test('copies a list, where an image without a tag is latest', async () => {
    const file = join(lab.folder, 'images.txt');
    await writeFile(file, `# what we need\n${FROM}/team/app\n\ndocker://${FROM}/team/web:*   # all of it\n`);
    expect(await copy(['--images-from', file, `${TO}/listed/`])).toMatchObject({ code: 0 });
    expect(await imagesBelow('listed')).toEqual(['team/app:latest', 'team/web:1.0.0']);
  });

  test('takes a list with the line ends of Windows', async () => {
    const list = `\ufeff# what we need\r\n\r\n${FROM}/team/app:1.0.0 # one\r\n${FROM}/team/web:1.0.0\r\n`;
    expect(await copy(['--images-from', '-', `${TO}/windows/`], list)).toMatchObject({ code: 0 });
    expect(await imagesBelow('windows')).toEqual(['team/app:1.0.0', 'team/web:1.0.0']);
  });

  test('copies a list from standard input, and renames repositories', async () => {
    const args = ['--images-from', '-', `${TO}/mapped/`, '--map', 'team/*=*'];
    expect(await copy(args, `${FROM}/team/app:1.0.0\n${FROM}/team/app:1.0.0\n`)).toMatchObject({ code: 0 });
    expect(await imagesBelow('mapped')).toEqual(['app:1.0.0']);
  });

  test('only prints what it would copy with --dry-run', async () => {
    const { code, stdout } = await copy([`${FROM}/team/*:1.*`, `${TO}/dry/`, '--dry-run']);
    expect({ code, rows: stdout.match(/^planned /gm)?.length }).toEqual({ code: 0, rows: 4 });
    expect(await imagesBelow('dry')).toEqual([]);
  });

  test('reports a missing image, copies the others, and exits 1', async () => {
    const list = `${FROM}/team/app:no-such\n${FROM}/team/web:1.0.0\n${FROM}/none/*\n`;
    const { code, stdout } = await copy(['--images-from', '-', `${TO}/some/`], list);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^failed: .*team\/app:no-such.*there is no such tag/m);
    expect(stdout).toMatch(/^fault: .*none\/\* was not copied: .*no repository that matches none\/\*/m);
    expect(await imagesBelow('some')).toEqual(['team/web:1.0.0']);
  });

  test.each<[readonly string[], number, RegExp]>([
    [[`${FROM}/team/*`, `${TO}/one:v1`], 2, /would both be .*end the destination with "\/"/],
    [[`${FROM}/team/*`, 's3://bucket/'], 2, /use transship backup/],
    [[`${FROM}/team/*`, 'oci-archive:x.tar'], 2, /use transship backup/],
    [[`${FROM}/team/app`, `${TO}/x/`, '--semver', 'new'], 2, /"new" is not a range of versions/],
    [[`${FROM}/team/app`, `${TO}/x/`, '--tags', 'v[2'], 2, /"v\[2" is not a pattern of tags/],
    [[`${FROM}/team/app`, `${TO}/x/`, '--tags', 'v9'], 1, /no image matches .*team\/app --tags "v9"/],
    [[`${FROM}/team/app`, `${TO}/x/`, '--latest', '0'], 2, /above 0/],
    [
      [`${FROM}/team/*:1.0.0`, `${TO}/x/`, '--map', 'nothing/*=*'],
      2,
      /--map nothing\/\*=\* matches none of the 2 images/,
    ],
    [['s3://bucket/x.tar', `${TO}/x/`, '--latest', '1'], 2, /is one archive/],
    [['--images-from', '/no/such', `${TO}/x/`], 1, /images from "\/no\/such": there is no such file/],
    [['--images-from', '-', 'a/b', `${TO}/x/`], 2, /leave out <src>/],
    [[`${FROM}/team/app:1.0.0`], 2, /missing required argument 'dst'/],
    [[`${FROM}/team/app:1.0.0`, `${TO}/x:y`, '--map', 'a=b'], 2, /--map is for several images/],
  ])('refuses %j', async (args, code, message) => {
    const ended = await copy(args, '\n# nothing\n');
    expect(ended.code, ended.stderr).toBe(code);
    expect(ended.stderr).toMatch(message);
  });

  test('refuses a list that names no image', async () => {
    const { code, stderr } = await copy(['--images-from', '-', `${TO}/x/`], '# nothing\n\n');
    expect({ code, stderr }).toEqual({ code: 2, stderr: 'transship: --images-from "-": it names no image\n' });
  });
});
