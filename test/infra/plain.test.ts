// Templates that are deployed without CDK.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { crc32, inflateRawSync } from 'node:zlib';
import { assert as forAll, property, string, uint8Array, uniqueArray, record } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { PlainSynthesizer, plainText } from '../../infra/synth/plain-synthesizer.ts';
import { readSettings } from '../../infra/settings/settings.ts';
import { addStacks } from '../../infra/synth/stacks.ts';
import { zip } from '../../infra/synth/zip.ts';
import { EXAMPLES, app, settingsOf } from './templates.ts';

describe('plain templates', () => {
  test.each(EXAMPLES)('of the example %s need nothing that `cdk bootstrap` creates', (example) => {
    const tree = app();
    addStacks(tree, readSettings(`infra/examples/${example}.yaml`), { synthesizer: () => new PlainSynthesizer() });
    const { stacks } = tree.synth();
    expect(stacks.length).toBeGreaterThan(0);
    for (const { id, template } of stacks) {
      const text = JSON.stringify(template);
      expect(text, id).not.toMatch(/cdk-hnb659fds|BootstrapVersion|aws:cdk:path/);
      // https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
      expect(text.length, id).toBeLessThan(1_000_000);
      // OFF, the FlexibleTimeWindow mode of the schedule, is false in YAML 1.1
      expect(parse(plainText(template), { version: '1.1' }), id).toEqual(JSON.parse(text));
      const order = ['Description', 'Parameters', 'Resources', 'Outputs'];
      expect(plainText(template).match(/^\w+/gm), id).toEqual(order.filter((name) => name in template));
    }
  });

  test('take the places of the functions’ code and of the image as parameters, by the names in docs/deployment.md', () => {
    const tree = app();
    addStacks(tree, settingsOf('blobMounting: true'), { synthesizer: () => new PlainSynthesizer() });
    const { template } = tree.synth().getStackByName('transship');
    const names = Object.keys(template.Parameters);
    expect(names.toSorted()).toEqual(['AssetBucket', 'WorkerRepository', 'WorkerTag']);
    for (const name of names) expect(readFileSync('docs/deployment.md', 'utf8')).toContain(`${name}=`);
    const text = JSON.stringify(template);
    expect(text.match(/"S3Bucket":\{"Ref":"AssetBucket"\},"S3Key":"[0-9a-f]{64}\.zip"/g)).toHaveLength(2);
    expect(text).toContain(
      '"Image":{"Fn::Join":["",[{"Ref":"AWS::AccountId"},".dkr.ecr.",{"Ref":"AWS::Region"},".",{"Ref":"AWS::URLSuffix"},"/",{"Ref":"WorkerRepository"},":",{"Ref":"WorkerTag"}]]}',
    );
  });
});

describe('settings that cannot be used', () => {
  const HEAD = "version: 1\naccount: '111111111111'\n";

  /** Runs an entry point in a separate folder. */
  function run(entry: string, settings: string): { status: number | null; stderr: string; written: boolean } {
    const folder = mkdtempSync(join(tmpdir(), 'transship-entry-'));
    try {
      writeFileSync(join(folder, 'transship.infra.yaml'), settings);
      const env = { PATH: process.env['PATH'] ?? '', HOME: folder, CDK_OUTDIR: join(folder, 'cdk.out') };
      const { status, stderr } = spawnSync(process.execPath, [resolve(entry)], { cwd: folder, env, encoding: 'utf8' });
      return { status, stderr, written: existsSync(join(folder, 'dist')) };
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  test.each(['infra/synth/app.ts', 'infra/synth/template.ts'])(
    'are refused by %s with a message, and nothing is written',
    (entry) => {
      expect(run(entry, `${HEAD}region: us-east-1\nprefix: Tea\n`)).toEqual({
        status: 1,
        stderr: 'transship.infra.yaml: prefix "Tea": expected up to 20 small letters, digits and "-"\n',
        written: false,
      });
    },
  );

  test('name no account, and cdk has no credentials', () => {
    expect(run('infra/synth/app.ts', 'version: 1\nregion: us-east-1\n').stderr).toBe(
      'transship.infra.yaml: account: it is missing, and cdk has no AWS credentials to take it from: set it, or sign in to AWS and run cdk\n',
    );
  });

  test('are reported without a stack trace when a Region lacks what they need', () => {
    const settings = `${HEAD}region: us-gov-west-1\nvault: { account: '222222222222', region: us-gov-east-1, restoreTest: {} }\n`;
    const { status, stderr, written } = run('infra/synth/template.ts', settings);
    expect(status).toBe(1);
    expect(stderr).toMatch(/'AWS::Backup::RestoreTestingPlan' does not exist in 'us-gov-east-1'/);
    expect(stderr).toMatch(/\nthe errors above prevent a deployment: dist\/templates is as it was\n$/);
    expect(stderr).not.toMatch(/^ +at /m);
    expect(written).toBe(false);
  });
});

/** The files of an archive, found as every reader finds them: from its end. Each is compared with its own header. */
function unzip(archive: Buffer): ReadonlyMap<string, Buffer> {
  const end = archive.length - 22;
  expect(archive.readUInt32LE(end)).toBe(0x06_05_4b_50);
  expect(archive.readUInt32LE(end + 12) + archive.readUInt32LE(end + 16)).toBe(end);
  const files = new Map<string, Buffer>();
  let at = archive.readUInt32LE(end + 16);
  for (let n = archive.readUInt16LE(end + 10); n > 0; n--) {
    expect(archive.readUInt32LE(at)).toBe(0x02_01_4b_50);
    const local = archive.readUInt32LE(at + 42);
    expect(archive.readUInt32LE(local)).toBe(0x04_03_4b_50);
    // the headers are alike from the required version to the length of the extra field
    expect(archive.subarray(at + 6, at + 32)).toEqual(archive.subarray(local + 4, local + 30));
    const [packed, size, length] = [
      archive.readUInt32LE(at + 20),
      archive.readUInt32LE(at + 24),
      archive.readUInt16LE(at + 28),
    ];
    const name = archive.toString('utf8', at + 46, at + 46 + length);
    expect(archive.toString('utf8', local + 30, local + 30 + length)).toBe(name);
    const bytes = inflateRawSync(archive.subarray(local + 30 + length, local + 30 + length + packed));
    expect(bytes.length).toBe(size);
    expect(crc32(bytes)).toBe(archive.readUInt32LE(at + 16));
    files.set(name, bytes);
    at += 46 + length;
  }
  expect(at).toBe(end);
  return files;
}

describe('zip archives', () => {
  test('have the files that were added', () => {
    const file = record({ name: string({ minLength: 1, unit: 'grapheme' }), bytes: uint8Array({ maxLength: 3000 }) });
    forAll(
      property(uniqueArray(file, { maxLength: 5, selector: ({ name }) => name }), (entries) => {
        const files = unzip(zip(entries));
        expect([...files]).toEqual(entries.map(({ name, bytes }) => [name, Buffer.from(bytes)]));
      }),
    );
  });

  test('of the same files are identical, and all users may read the files', () => {
    const entries = [{ name: 'index.mjs', bytes: Buffer.from('export const a = 1;\n') }];
    expect(zip(entries)).toEqual(zip(entries));
    const archive = zip(entries);
    const at = archive.readUInt32LE(archive.length - 22 + 16);
    expect(archive.readUInt32LE(at + 38) >>> 16).toBe(0o100_644);
  });
});
