// How commands answer a place or a choice that a person got wrong, with the exit code.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { commandLine, type Ended } from '../support/command-line.ts';
import { backedUpToArchives, backedUpToStore } from '../support/backed-up.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, bucket, environment } = lab.stack;

const from = `docker://${ecr.registryHost}`;
const folder = join(lab.folder, 'archives');
const archives = `s3://${bucket}/archives/`;
const bare = `s3://${bucket}/kept/`;
let made: Promise<unknown> | undefined;

/** One image in a store, and in archives of a bucket and of a folder, once for all tests. */
async function backedUp(): Promise<void> {
  made ??= (async () => {
    const image = await makeImage({ seed: 1, layers: [500], platforms: ['linux/amd64'], sharedLayerBytes: 0 });
    await lab.push(image, ecr, 'team/app');
    await backedUpToStore(from, `store:${bare}`, lab.session());
    for (const place of [archives, `oci-archive:${folder}/`]) await backedUpToArchives(from, place, lab.session());
  })();
  await made;
}

const commands = commandLine({ ...environment, HOME: lab.folder });

async function transship(...args: readonly string[]): Promise<Ended> {
  await backedUp();
  return commands(...args);
}

test.each([['list'], ['stats'], ['verify'], ['serve'], ['restore']])(
  '%s of a store without "store:" names the place to write',
  async (command) => {
    const target = command === 'restore' ? [`docker://${otherEcr.registryHost}`] : [];
    const { code, stderr } = await transship(command, bare, ...target);
    expect(stderr).toContain(`${bare} is a store, not a prefix of archives: write store:${bare}`);
    expect(code).toBe(1);
  },
);

test.each(['store:s3:/bucket/prefix', 'store:http://bucket/', 'store:docker://host'])(
  'backup refuses %s instead of creating a folder of that name',
  async (place) => {
    const { code, stderr } = await transship('backup', from, place);
    expect(stderr).toContain(
      `"${place}" is not a place of images: a store is store:s3://bucket/prefix/ or store:folder`,
    );
    expect(code).toBe(2);
    expect(existsSync('s3:') || existsSync('http:') || existsSync('docker:')).toBe(false);
  },
);

test('stats of a store that does not exist names the store, not a snapshot', async () => {
  const { code, stderr } = await transship('stats', `store:s3://${bucket}/none/`);
  expect(stderr).toContain(`there is no store at store:s3://${bucket}/none/`);
  expect(code).toBe(1);
});

test.each([
  ['a store', `store:${bare}`],
  ['archives', archives],
  ['a registry', ecr.registryHost],
])('verify of %s fails where --only matches nothing, because nothing was verified', async (_, place) => {
  const { code, stdout, stderr } = await transship('verify', place, '--only', 'taem/*');
  expect(stderr).toContain(`--only taem/* matches nothing in ${place}`);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
});

test('diff fails where --only matches nothing in either place, because nothing was compared', async () => {
  const { code, stderr } = await transship('diff', ecr.registryHost, `store:${bare}`, '--only', 'taem/*');
  expect(stderr).toContain('--only taem/* matches nothing in either place');
  expect(code).toBe(1);
});

test.each([
  ['list', `store:${bare}`],
  ['verify', `store:${bare}`],
  ['stats', `store:${bare}`],
  ['list', archives],
  ['verify', archives],
])('%s %s as of a time before its first snapshot fails', async (command, place) => {
  const { code, stderr } = await transship(command, place, '--as-of', '2020-01-01');
  expect(stderr).toContain(
    `there is no image of that time in ${place}: \`transship snapshots list ${place}\` prints the times that there are`,
  );
  expect(code).toBe(1);
});

test('restore reads a folder of archives as other commands do', async () => {
  const { code, stdout } = await transship('restore', `${folder}/`, `docker://${otherEcr.registryHost}/folder`);
  expect(stdout).toContain('1 copied, 0 unchanged, 0 failed');
  expect(code).toBe(0);
});

test.each(['oci-archive:x.tar', 'store:./y', 'HOST/repo:tag'])(
  'restore of a whole registry refuses the target %s and names valid ones',
  async (to) => {
    const target = to.replace('HOST', otherEcr.registryHost);
    const { code, stderr } = await transship('restore', `store:${bare}`, target);
    expect(stderr).toContain(
      `"${target}" is not a location of images: a registry is named by its host: docker://host or docker://host/prefix`,
    );
    expect(code).toBe(2);
  },
);

test('snapshots show prints the size of the images, and what the backup sent for them', async () => {
  const { stdout } = await transship('snapshots', 'show', archives, 'latest');
  expect(stdout).toMatch(/^images +1 with 1 tag$/m);
  expect(stdout).toMatch(/^bytes +[\d.]+ KiB, each blob once; the backup sent [\d.]+ KiB$/m);
});

test('backup counts one image of one repository in the singular', async () => {
  const { stdout } = await transship('backup', `${from}/team/app`, `store:${bare}`);
  expect(stdout).toMatch(/^1 image of 1 repository: 0 stored, 1 unchanged, 0 failed$/m);
});
