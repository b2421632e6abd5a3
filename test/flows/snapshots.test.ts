// The commands as a person types them, over backups of an embedded ECR into a store.
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { backupToStore } from '../../worker/images/backup-store.ts';
import { openFiles } from '../../worker/objects/files/store.ts';
import { openSnapshots } from '../../worker/store/snapshots.ts';
import { systemClock } from '../../worker/util/clock.ts';
import { commandLine, type Ended } from '../support/command-line.ts';
import { makeImage } from '../support/images.ts';
import { openLab } from '../support/lab.ts';
import { startLocalKms } from '../support/local-kms.ts';
import { makeSnapshot } from '../support/snapshots.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, environment } = lab.stack;
const host = ecr.registryHost;
const home = join(lab.folder, 'home');
await mkdir(home);

const transship = commandLine({ ...environment, HOME: home });

const snapshots = async (...args: readonly string[]): Promise<Ended> => transship('snapshots', ...args);

async function push(repository: string, tag: string, seed: number): Promise<void> {
  const image = await makeImage({ seed, tag, layers: [200], platforms: ['linux/amd64'], signed: seed === 1 });
  await lab.push(image, ecr, repository);
}

/** A store of its own, and backups into it, each a minute after the previous one. */
function storeFor(name: string): { readonly place: string; readonly backUp: (pattern: string) => Promise<string> } {
  const place = `store:${join(lab.folder, name)}`;
  let minutes = -60;
  return {
    place,
    backUp: async (pattern) => {
      minutes++;
      const { backends, options } = lab.session();
      const clock = { ...systemClock, now: () => systemClock.now() + minutes * 60_000 };
      const request = { from: `${host}/${pattern}`, to: place, tool: 'transship test', untagged: true };
      const { snapshot, failures } = await backupToStore(request, backends, { ...options, clock });
      expect(failures).toEqual([]);
      return snapshot?.id ?? '';
    },
  };
}

describe('transship snapshots', () => {
  test('lists snapshots from the oldest to the newest, with sizes and what was new', async () => {
    const { place, backUp } = storeFor('listed');
    await push('listed/app', 'v1', 1);
    const first = await backUp('listed/*');
    await push('listed/app', 'v2', 2);
    await push('listed/job', 'v1', 2);
    const second = await backUp('listed/*');
    const { code, stdout } = await snapshots(place);
    expect(code).toBe(0);
    const [heads, , ...rows] = stdout.trimEnd().split('\n');
    expect(heads).toMatch(/^id +finished +registry +repositories +images +bytes +new bytes +failures +rule$/);
    expect(rows.map((row) => row.split(/ {2,}/).filter((_, column) => [0, 2, 3, 4, 7].includes(column)))).toEqual([
      [first.slice(0, 8), host, '1', '1', '-'],
      [second.slice(0, 8), host, '2', '3', '-'],
    ]);
    const json = JSON.parse((await snapshots('list', place, '--latest', '1', '--json')).stdout);
    expect(json.snapshots).toMatchObject([{ id: second, repositories: 2, images: 3, tags: 3, kind: 'store' }]);
    expect(json.snapshots[0].newBytes).toBeLessThan(json.snapshots[0].bytes);
  });

  test('shows the images of one, by the start of its id', async () => {
    const { place, backUp } = storeFor('shown');
    await push('shown/app', 'v1', 1);
    await push('shown/job', 'v1', 2);
    const id = await backUp('shown/*');
    const { code, stdout } = await snapshots('show', place, id.slice(0, 6), '--only', 'shown/app');
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`^snapshot +${id}$`, 'm'));
    expect(stdout).toMatch(/^repositories +2$/m);
    expect(stdout).toMatch(/^shown\/app:v1 +sha256:[0-9a-f]{12} +[\d.]+ KiB +\d{4}-\d\d-\d\d +4$/m);
    expect(stdout).not.toMatch(/^shown\/job/m);
    const json = JSON.parse((await snapshots('show', place, 'latest', '--json')).stdout);
    expect(json).toMatchObject({ id, version: 1, repositories: [{ name: 'shown/app' }, { name: 'shown/job' }] });
  });

  test('reports what is new, moved and deleted between two', async () => {
    const { place, backUp } = storeFor('compared');
    await push('compared/app', 'v1', 1);
    await push('compared/app', 'v2', 2);
    await push('compared/app', 'moving', 2);
    const first = await backUp('compared/*');
    await push('compared/app', 'moving', 3);
    await push('compared/new', 'v1', 2);
    const prune = await transship('prune', `${host}/compared/app`, '--delete-tags', 'v1', '--yes');
    expect(prune.code).toBe(0);
    const second = await backUp('compared/*');
    const { code, stdout } = await snapshots('diff', place, first, second);
    expect(code).toBe(3);
    expect(stdout).toMatch(/^deleted +compared\/app:v1 +sha256:/m);
    expect(stdout).toMatch(/^moved +compared\/app:moving +sha256:[0-9a-f]{12} +sha256:[0-9a-f]{12}$/m);
    expect(stdout).toMatch(/^new +compared\/new:v1 +sha256:/m);
    expect(stdout).toMatch(
      /: 1 new, 1 moved, 0 with other referrers, 1 deleted, 1 the same; 0 not backed up; [\d.]+ \w+ of new content$/m,
    );
    expect((await snapshots('diff', place, first, first)).code).toBe(0);
  });

  test('finds an image that was signed between two', async () => {
    const { place, backUp } = storeFor('resigned');
    await push('resigned/app', 'v1', 1);
    await push('resigned/app', 'v2', 2);
    const first = await backUp('resigned/*');
    const [image] = JSON.parse((await transship('list', place, '--only', '*:v2', '--json')).stdout);
    const made = await makeImage({ seed: 2, tag: 'v2', layers: [200], platforms: ['linux/amd64'] });
    expect(made.root.descriptor.digest).toBe(image.digest);
    const signature = await makeImage({ seed: 9, tag: `${image.digest.replace(':', '-')}.sig`, layers: [50] });
    await lab.push(signature, ecr, 'resigned/app');
    const second = await backUp('resigned/*');
    const { code, stdout } = await snapshots('diff', place, first, second);
    expect(code).toBe(3);
    expect(stdout).toMatch(/^referrers +resigned\/app:v2 +sha256:/m);
    expect(stdout).toMatch(/: 0 new, 0 moved, 1 with other referrers, 0 deleted, 1 the same;/);
  });

  test('reports what the registry has now that is not backed up, and what no rule covers', async () => {
    const { place, backUp } = storeFor('now');
    await push('now/app', 'v1', 1);
    await push('now/app', 'moving', 2);
    await push('now/old', 'v1', 4);
    await backUp('now/*');
    await push('now/app', 'v2', 3);
    await push('now/app', 'moving', 3);
    // a push that was backed up by itself: newer than the compared snapshot
    const [id = ''] = JSON.parse((await snapshots('list', place, '--json')).stdout).snapshots.map(
      (one: { id: string }) => one.id,
    );
    await push('now/app', 'v3', 5);
    await backUp('now/app:v3');
    const rules = join(lab.folder, 'rules.yaml');
    await writeFile(
      rules,
      `version: 1\nrules:\n  - name: app\n    backup: { from: ${host}/now/app, to: s3://backups/, tags: { include: ["v*"] } }\n    schedule: "0 1 * * *"\n`,
    );
    const { code, stdout, stderr } = await snapshots('diff', place, id.slice(0, 8), 'now', '-f', rules);
    expect({ code, stderr }).toEqual({ code: 3, stderr: 'transship: exit code 3: 7 differences\n' });
    const rows = stdout.split('\n').map((row) => row.split(/ {2,}/));
    const named = (change: string): readonly (string | undefined)[] =>
      rows.filter(([first]) => first === change).map(([, name]) => name);
    expect(named('new')).toEqual(['now/app:v2', 'now/app:v3']);
    expect(named('moved')).toEqual(['now/app:moving']);
    expect(named('not backed up')).toEqual(['now/app:moving', 'now/app:v2']);
    expect(named('no rule covers it')).toEqual(['now/app:moving', 'now/old:v1']);
    expect(stdout).toContain('the backups have an older image of this tag');
  });

  test('trusts only what the key signed, where a key is given', async () => {
    const kms = await startLocalKms();
    process.env['AWS_ENDPOINT_URL_KMS'] = kms.endpoint;
    onTestFinished(() => void delete process.env['AWS_ENDPOINT_URL_KMS']);
    const { pem } = kms.key('alias/backups', 'ECC_NIST_P256');
    const file = join(lab.folder, 'backups.pem');
    await writeFile(file, pem);
    await push('signed/app', 'v1', 1);
    const { place, backUp } = storeFor('signed');
    const written = await transship('backup', `${host}/signed/*`, place, '--sign-with', 'alias/backups', '--quiet');
    expect(written).toMatchObject({ code: 0, stderr: '' });
    for (const key of ['alias/backups', file])
      expect(await snapshots(place, '--verify-key', key)).toMatchObject({ code: 0 });
    const target = `docker://${lab.stack.otherEcr.registryHost}`;
    expect(await transship('verify', place, '--verify-key', file)).toMatchObject({ code: 0 });
    expect(await transship('restore', place, target, '--verify-key', file, '--quiet')).toMatchObject({ code: 0 });
    const oneFile = `store:${join(lab.folder, 'signed.tar')}`;
    const carried = await transship('backup', `${host}/signed/*`, oneFile, '--sign-with', 'alias/backups', '--quiet');
    expect(carried).toMatchObject({ code: 0, stderr: '' });
    expect(await transship('verify', oneFile, '--verify-key', file)).toMatchObject({ code: 0 });
    await backUp('signed/*');
    expect(await transship('verify', place, '--verify-key', file)).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(/is not signed, and .*backups\.pem is the key that must have signed it/),
    });
    expect(await transship('restore', place, target, '--verify-key', file)).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/is not signed, and .*backups\.pem is the key that must have signed it/),
    });
    const { code, stdout } = await snapshots(place, '--verify-key', file);
    expect(code).toBe(3);
    expect(stdout).toMatch(
      /^broken: the snapshot .* is not signed, and .*backups\.pem is the key that must have signed it$/m,
    );
    const refused = await transship('backup', `${host}/signed/*`, place, '--sign-with', 'alias/none', '--quiet');
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/read the public key of alias\/none: NotFound/),
    });
    expect(await snapshots('show', place, 'latest', '--verify-key', home)).toMatchObject({ code: 2 });
  });

  test('are the source of a report, which is written as one page', async () => {
    const { place, backUp } = storeFor('reported');
    await push('reported/app', 'v1', 1);
    await backUp('reported/*');
    const file = join(lab.folder, 'report.html');
    const { code, stdout } = await transship('report', place, '--html', file, '--days', '7');
    expect(code).toBe(0);
    expect(stdout).toBe(`wrote ${file}: 1 image in 1 repository from 1 snapshot, 0 not backed up\n`);
    expect(await readFile(file, 'utf8')).toMatch(/<b>100 %<\/b>.*reported\/app/s);
    expect(await transship('report', place, '--html', join(lab.folder, 'missing', 'x.html'))).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/cannot be written: name a file in a folder that exists/),
    });
    expect(await transship('report', place, '--html', file, '--days', '0')).toMatchObject({ code: 2 });
  });

  test.each([
    [['show', 'PLACE', 'ffffffff'], 1, /no snapshot in .* has an id that begins with ffffffff/],
    [['show', 'PLACE', 'newest'], 2, /"newest" is not a snapshot: expected "latest"/],
    [['diff', 'PLACE', 'latest', 'ffff'], 1, /no snapshot in /],
    [['list', 'registry.example'], 2, /"registry\.example" is a registry, which has no snapshots: name a store/],
    [['list', 'store:./missing-store'], 1, /there is no store at store:\.\/missing-store/],
    [
      ['diff', 'PLACE', 'latest', 'latest', '-f', 'missing.yaml'],
      1,
      /the rules in "missing\.yaml": there is no such file/,
    ],
  ] as const)('%j is refused', async (args, code, message) => {
    const { place, backUp } = storeFor('refused');
    await push('refused/app', 'v1', 1);
    if (!(await readdir(lab.folder)).includes('refused')) await backUp('refused/*');
    const ended = await snapshots(...args.map((one) => (one === 'PLACE' ? place : one)));
    expect(ended).toMatchObject({ code, stdout: '', stderr: expect.stringMatching(message) });
  });

  test('reports a snapshot that was edited, one of a newer version, and one from a clock that is ahead', async () => {
    const { place, backUp } = storeFor('odd');
    await push('odd/app', 'v1', 1);
    const id = await backUp('odd/*');
    const store = openFiles(join(lab.folder, 'odd'));
    const kept = openSnapshots({ store, prefix: '' });
    const inAnHour = new Date(systemClock.now() + 3_600_000).toISOString();
    const ahead = await kept.write(makeSnapshot({ finishedAt: inAnHour }));
    const [edited] = await kept.list();
    const path = join(lab.folder, 'odd', edited?.key ?? '');
    const bytes = await readFile(path);
    bytes[bytes.byteLength - 5] = (bytes[bytes.byteLength - 5] ?? 0) ^ 1;
    await rm(path);
    await writeFile(path, bytes);
    const { code, stdout } = await snapshots(place);
    expect(code).toBe(3);
    expect(stdout).toMatch(new RegExp(`^${id.slice(0, 8)} .* cannot be read$`, 'm'));
    expect(stdout).toMatch(/^broken: the snapshot .* was changed or damaged after it was written/m);
    expect(stdout).toMatch(
      new RegExp(
        `^warning: ${ahead.id.slice(0, 8)} was written by a clock that was \\d+[hm]\\w+ ahead of the store's`,
        'm',
      ),
    );
  });
});
