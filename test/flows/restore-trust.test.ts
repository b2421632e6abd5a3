// What a restore accepts from a bucket that another process may have written to: settings, grants and names.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DeleteObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, describe, expect, test } from 'vitest';
import { backup } from '../../worker/images/backup.ts';
import { restore, type RestoreRequest } from '../../worker/images/restore.ts';
import type { BatchResult } from '../../worker/images/copy-images.ts';
import { commandLine } from '../support/command-line.ts';
import { makeImage } from '../support/images.ts';
import { openLab, requestsDuring, sentenceOf } from '../support/lab.ts';
import { clientOf } from '../support/local-s3.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { ecr, otherEcr, registry, bucket } = lab.stack;
const transship = commandLine(lab.stack.environment);
const HOME = `docker://${ecr.registryHost}`;
const [ACCOUNT = ''] = ecr.registryHost.split('.');
const [OTHER_ACCOUNT = ''] = otherEcr.registryHost.split('.');

const OPEN_POLICY = JSON.stringify({
  Version: '2012-10-17',
  Statement: [{ Sid: 'x', Effect: 'Allow', Principal: '*', Action: 'ecr:*' }],
});
const EXPIRE_ALL_BUT_ONE = JSON.stringify({
  rules: [
    {
      rulePriority: 1,
      selection: { tagStatus: 'any', countType: 'imageCountMoreThan', countNumber: 1 },
      action: { type: 'expire' },
    },
  ],
});

interface Restored extends BatchResult {
  readonly notes: readonly string[];
  readonly warnings: readonly string[];
}

async function run(request: RestoreRequest): Promise<Restored> {
  const session = lab.session();
  const result = await restore(request, session.backends, session.options);
  const said = (type: 'note' | 'warning'): readonly string[] =>
    session.events.flatMap((event) => (event.type === type ? [event.message] : []));
  return { ...result, notes: said('note'), warnings: said('warning') };
}

/** One image of `repository` in ECR, archived below `prefix`; beside it the settings that an attacker put there. */
async function archived(
  name: string,
  settings: Readonly<Record<string, unknown>>,
): Promise<{ repository: string; from: string }> {
  const repository = `${name}/app`;
  await lab.push(await makeImage({ seed: name.length }), ecr, repository);
  const { backends, options } = lab.session();
  await backup({ from: `${HOME}/${repository}`, to: `s3://${bucket}/${name}/` }, backends, options);
  const key = `${name}/us-east-1/${repository}/repository.json`;
  await backends.bucket(bucket).write(key, Buffer.from(JSON.stringify({ format: 1, repository, settings })));
  return { repository, from: `s3://${bucket}/${name}/` };
}

async function settingsOf(repository: string, where = ecr): Promise<Readonly<Record<string, unknown>> | undefined> {
  return lab.session().backends.registry(where.registryHost, 'target').settings(repository);
}

function allow(principal: unknown): string {
  return JSON.stringify({ Statement: [{ Effect: 'Allow', Principal: principal, Action: 'ecr:BatchGetImage' }] });
}

describe('the settings of a repository that exists', () => {
  test('stay unchanged when an object beside the archives grants access to everyone and expires images', async () => {
    const { repository, from } = await archived('replaced', {
      tagMutability: 'IMMUTABLE',
      repositoryPolicy: OPEN_POLICY,
      lifecyclePolicy: EXPIRE_ALL_BUT_ONE,
    });
    const before = await settingsOf(repository);
    const { items, faults, notes } = await run({ from, to: HOME });
    expect(items).toMatchObject([{ outcome: 'unchanged' }]);
    expect(faults).toEqual([]);
    expect(await settingsOf(repository)).toEqual(before);
    expect(notes).toEqual([
      '1 existing repository kept the settings that were there; pass --settings replace to replace them',
    ]);
  });

  test('are shown as a diff first, and replaced on request', async () => {
    const settings = { tagMutability: 'IMMUTABLE', tags: { team: 'web' }, lifecyclePolicy: EXPIRE_ALL_BUT_ONE };
    const { repository, from } = await archived('differing', settings);
    const before = await settingsOf(repository);
    const diff = [
      `${repository}: tagMutability: "MUTABLE" → "IMMUTABLE"`,
      `${repository}: tags: nothing → {"team":"web"}`,
      `${repository}: lifecyclePolicy: nothing → ${EXPIRE_ALL_BUT_ONE}`,
    ];
    const dry = await run({ from, to: HOME, settings: 'replace', dryRun: true });
    expect({ notes: dry.notes, faults: dry.faults }).toEqual({ notes: diff, faults: [] });
    expect(await settingsOf(repository)).toEqual(before);

    expect(await run({ from, to: HOME, settings: 'replace' })).toMatchObject({ notes: diff, faults: [] });
    expect(await settingsOf(repository)).toMatchObject(settings);
    // nothing is left to change
    const calls = await requestsDuring(ecr, async () => {
      expect(await run({ from, to: HOME, settings: 'replace' })).toMatchObject({ notes: [], faults: [] });
    });
    expect(Object.keys(calls).filter((kind) => /put/.test(kind))).toEqual([]);
  });

  test('show no change where ECR has no such change: exclusions without a mutability', async () => {
    const { repository, from } = await archived('excluding', { tagMutabilityExclusions: ['*'] });
    const before = await settingsOf(repository);
    expect(await run({ from, to: HOME, settings: 'replace' })).toMatchObject({ notes: [], faults: [] });
    expect(await settingsOf(repository)).toEqual(before);
  });

  test('stay unchanged with --no-create, which --settings replace contradicts', async () => {
    const { repository, from } = await archived('uncreated', { tagMutability: 'IMMUTABLE' });
    const refused = await transship('restore', '--no-create', '--settings', 'replace', from, HOME);
    expect(refused).toMatchObject({ code: 2, stdout: '' });
    expect(refused.stderr).toMatch(/^transship: --settings replace [^\n]* pass one of the two\n$/);
    expect(await transship('restore', '--no-create', from, HOME)).toMatchObject({ code: 0 });
    expect(await settingsOf(repository)).toMatchObject({ tagMutability: 'MUTABLE' });
  });

  test('are not taken from the same repository of another registry', async () => {
    const { repository, from } = await archived('twin', {});
    const key = `twin/us-east-1/${repository}/repository.json`;
    const naming = async (host: string): Promise<Restored> => {
      const document = { format: 1, registry: host, repository, settings: { scanOnPush: true } };
      await lab
        .session()
        .backends.bucket(bucket)
        .write(key, Buffer.from(JSON.stringify(document)));
      return run({ from, to: HOME, settings: 'replace' });
    };
    const other = '999999999999.dkr.ecr.eu-west-3.amazonaws.com';
    expect((await naming(other)).faults).toEqual([expect.stringContaining(`the settings of "${other}/${repository}"`)]);
    expect(await naming(ecr.registryHost)).toMatchObject({ faults: [] });
    expect(await settingsOf(repository)).toMatchObject({ scanOnPush: true });
  });

  test('are not replaced where the existing ones cannot be read', async () => {
    const { repository, from } = await archived('unread', { tagMutability: 'IMMUTABLE' });
    const before = await settingsOf(repository);
    ecr.faults.add(
      { operation: 'GetRepositoryPolicy' },
      { kind: 'answer', status: 400, code: 'AccessDeniedException' },
    );
    const { faults } = await run({ from, to: HOME, settings: 'replace' });
    expect(faults).toEqual([
      expect.stringMatching(/^settings of unread\/app were not restored: .*GetRepositoryPolicy/),
    ]);
    expect(await settingsOf(repository)).toEqual(before);
  });
});

describe('the settings of a repository that does not exist', () => {
  test('are those of the archives, and a dry run lists them', async () => {
    const { repository, from } = await archived('created', { tagMutability: 'IMMUTABLE', scanOnPush: true });
    const to = `docker://${otherEcr.registryHost}`;
    const settings = 'created with tagMutability "IMMUTABLE", scanOnPush true';
    const planned = await run({ from, to, dryRun: true });
    expect(planned).toMatchObject({ notes: [`${repository}: would be ${settings}`], faults: [] });
    expect(await run({ from, to })).toMatchObject({ notes: [`${repository}: ${settings}`], faults: [] });
    expect(await settingsOf(repository, otherEcr)).toMatchObject({ tagMutability: 'IMMUTABLE', scanOnPush: true });
  });

  test('are those of ECR where no settings are requested', async () => {
    const { repository, from } = await archived('unset', { tagMutability: 'IMMUTABLE' });
    const result = await run({ from, to: `docker://${otherEcr.registryHost}`, settings: 'none' });
    expect(result).toMatchObject({ notes: [], faults: [], items: [{ outcome: 'copied' }] });
    expect(await settingsOf(repository, otherEcr)).toMatchObject({ tagMutability: 'MUTABLE' });
  });
});

describe('settings that the caller chooses', () => {
  test('override those beside the archives, member by member, in repositories that are created', async () => {
    const stored = { tagMutability: 'MUTABLE_WITH_EXCLUSION', tagMutabilityExclusions: ['*'], scanOnPush: true };
    const { repository, from } = await archived('chosen', { ...stored, repositoryPolicy: OPEN_POLICY });
    const repositoryPolicy = allow({ AWS: [OTHER_ACCOUNT] });
    const createSettings = { tagMutability: 'IMMUTABLE', repositoryPolicy };
    const to = `docker://${otherEcr.registryHost}`;
    expect(await run({ from, to, createSettings })).toMatchObject({ faults: [] });
    const settings = await settingsOf(repository, otherEcr);
    expect(settings).toMatchObject({ tagMutability: 'IMMUTABLE', scanOnPush: true, repositoryPolicy });
    expect(settings?.['tagMutabilityExclusions']).toBeUndefined();
  });

  test('come from the file of --create-settings', async () => {
    const { repository, from } = await archived('chosen-by-flag', { tagMutability: 'MUTABLE' });
    const file = join(lab.folder, 'create-settings.json');
    await writeFile(file, JSON.stringify({ tagMutability: 'IMMUTABLE' }));
    const to = `docker://${otherEcr.registryHost}`;
    expect(await transship('restore', '--create-settings', file, from, to)).toMatchObject({ code: 0 });
    expect(await settingsOf(repository, otherEcr)).toMatchObject({ tagMutability: 'IMMUTABLE' });
  });

  test.each([{ settings: 'replace' }, { allowForeignGrants: true }] as const)(
    'are refused for one archive, whose settings are not restored: %j',
    async (choice) => {
      const from = `s3://${bucket}/one-archive/app/v1.tar`;
      const refused = await sentenceOf(run({ from, to: `${HOME}/one-archive/app:v1`, ...choice }), 'INVALID');
      expect(refused).toContain(`${from} is one archive, of which no settings are restored`);
    },
  );

  test('of several days are those of the last day', async () => {
    const repository = 'days/app';
    await lab.push(await makeImage({ seed: 720, layers: [2000] }), ecr, repository);
    const session = lab.session();
    for (const [date, scanOnPush] of [
      ['2026-01-01', false],
      ['2026-01-02', true],
    ] as const) {
      const folder = `days/${date}/${repository}`;
      await session.copy(`${HOME}/${repository}:v1`, `s3://${bucket}/${folder}/v1.tar`);
      const document = Buffer.from(JSON.stringify({ format: 1, repository, settings: { scanOnPush } }));
      await session.backends.bucket(bucket).write(`${folder}/repository.json`, document);
    }
    const { faults, notes } = await run({ from: `s3://${bucket}/days/`, to: `docker://${otherEcr.registryHost}` });
    expect({ faults, notes }).toEqual({
      faults: [],
      notes: [
        `settings of ${repository} lie in 2 places: s3://${bucket}/days/2026-01-02/${repository}/repository.json is the one that is restored`,
        `${repository}: created with scanOnPush true`,
      ],
    });
  });
});

describe('a repository policy that grants access', () => {
  test.each([
    ['everybody', '"*"', OPEN_POLICY],
    [
      'another account',
      '"arn:aws:iam::666666666666:root"',
      allow({ AWS: ['arn:aws:iam::666666666666:root', OTHER_ACCOUNT] }),
    ],
    ['the account that the archive names as its source', `"${ACCOUNT}"`, allow({ AWS: [ACCOUNT, OTHER_ACCOUNT] })],
  ])(
    'to %s is left out with a fault that names it, and the other settings are applied',
    async (whom, named, policy) => {
      const name = `grants-${whom.replaceAll(' ', '-')}`;
      const { repository, from } = await archived(name, { tagMutability: 'IMMUTABLE', repositoryPolicy: policy });
      const to = `docker://${otherEcr.registryHost}`;
      const { faults } = await run({ from, to });
      expect(faults).toEqual([
        expect.stringMatching(`^settings of ${repository}: the repository policy was left out: it grants .*to `),
      ]);
      expect(faults.join()).toContain(named);
      const settings = await settingsOf(repository, otherEcr);
      expect(settings).toMatchObject({ tagMutability: 'IMMUTABLE' });
      expect(settings?.['repositoryPolicy']).toBeUndefined();

      const allowed = await run({ from, to, settings: 'replace', allowForeignGrants: true });
      expect(allowed.faults).toEqual([]);
      expect(allowed.notes.join()).toContain(`${repository}: repositoryPolicy: nothing → ${policy}`);
      expect((await settingsOf(repository, otherEcr))?.['repositoryPolicy']).toEqual(policy);
    },
  );

  test('to the account of the target only is restored', async () => {
    const repositoryPolicy = allow({ AWS: [OTHER_ACCOUNT, `arn:aws:iam::${OTHER_ACCOUNT}:role/reader`] });
    const { repository, from } = await archived('own-grants', { repositoryPolicy });
    const { faults } = await run({ from, to: `docker://${otherEcr.registryHost}` });
    expect(faults).toEqual([]);
    expect(await settingsOf(repository, otherEcr)).toMatchObject({ repositoryPolicy });
  });
});

describe('an archive that names another image', () => {
  async function impostor(prefix: string): Promise<string> {
    const name = `${prefix}-prod/payments`;
    await lab.push(await makeImage({ seed: 31, tag: 'latest' }), ecr, name);
    const key = `${prefix}/us-east-1/unimportant/x.tar`;
    await lab.session().copy(`${HOME}/${name}:latest`, `s3://${bucket}/${key}`);
    await lab.stack.deleteRepository(name);
    return name;
  }

  test('is reported and skipped when everything below a prefix is restored', async () => {
    const name = await impostor('impostor');
    const { items, faults } = await run({ from: `s3://${bucket}/impostor/`, to: HOME });
    expect(items).toEqual([]);
    expect(faults).toEqual([
      `s3://${bucket}/impostor/us-east-1/unimportant/x.tar: it was not restored: it holds ${name}:latest, which its key does not name; restore it by its whole key, or pass --trust-names`,
    ]);
  });

  test('is restored by its whole key, and when names are trusted', async () => {
    const name = await impostor('trusted');
    const key = `s3://${bucket}/trusted/us-east-1/unimportant/x.tar`;
    expect(await run({ from: key, to: HOME })).toMatchObject({ faults: [], items: [{ outcome: 'copied' }] });
    const all = await run({ from: `s3://${bucket}/trusted/`, to: HOME, trustNames: true });
    expect(all).toMatchObject({ faults: [], items: [{ outcome: 'unchanged', to: `${HOME}/${name}:latest` }] });
  });

  test('is accepted where a backup with the name in its template wrote it', async () => {
    await lab.push(await makeImage({ seed: 32 }), registry, 'layouts/app');
    const { backends, options } = lab.session();
    const from = `docker://${registry.registryHost}/layouts/app`;
    await backup({ from, to: `s3://${bucket}/layouts/a/` }, backends, options);
    const host = registry.registryHost.replace(':', '_');
    const prefixes = ['', 'a/', `a/${host}/`, `a/${host}/layouts/app/`];
    await backup({ from, to: `s3://${bucket}/layouts-b/{repository}/{tag}.tar` }, backends, options);
    for (const prefix of [...prefixes.map((below) => `layouts/${below}`), 'layouts-b/', 'layouts-b/layouts/']) {
      const { faults } = await run({ from: `s3://${bucket}/${prefix}`, to: HOME });
      expect({ prefix, faults }).toEqual({ prefix, faults: [] });
    }
  });
});

describe('a repository.json that differs from the one the archives were written with', () => {
  interface Sealed {
    readonly from: string;
    readonly to: string;
    /** The place of `repository.json`. */
    readonly place: string;
    readonly backUp: () => Promise<BatchResult>;
    readonly overwrite: (settings: Readonly<Record<string, unknown>>) => Promise<void>;
  }

  /** Images `v1` and `v2` of a repository in ECR, archived by `backup` as files that end in `ending`. */
  async function sealed(name: string, ending = 'tar'): Promise<Sealed> {
    const repository = `${name}/app`;
    for (const [seed, tag] of ['v1', 'v2'].entries())
      await lab.push(await makeImage({ seed: 700 + seed, tag, layers: [2000] }), ecr, repository);
    const key = `${name}/${repository}/repository.json`;
    const bench: Sealed = {
      from: `s3://${bucket}/${name}/`,
      to: `docker://${otherEcr.registryHost}`,
      place: `s3://${bucket}/${key}`,
      backUp: async () => {
        const { backends, options } = lab.session();
        const to = `${bench.from}{repository}/{tag}.${ending}`;
        return backup({ from: `${HOME}/${repository}`, to }, backends, options);
      },
      overwrite: async (settings) => {
        const document = Buffer.from(JSON.stringify({ format: 1, repository, settings }));
        await lab.session().backends.bucket(bucket).write(key, document);
      },
    };
    expect(await bench.backUp()).toMatchObject({ faults: [], items: [{ outcome: 'copied' }, { outcome: 'copied' }] });
    return bench;
  }

  test.each(['tar', 'tar.gz', 'tar.zst'])(
    'is a warning before its settings are applied, of archives that end in .%s',
    async (ending) => {
      const name = `sealed-${ending.replace('.', '-')}`;
      const { from, to, place, overwrite } = await sealed(name, ending);
      expect(await run({ from, to, dryRun: true })).toMatchObject({ warnings: [], faults: [] });
      await overwrite({ tagMutability: 'IMMUTABLE' });
      const warning = `settings of ${name}/app: ${place} is not the one that 2 of its archives were written with: it was changed since, or replaced`;
      expect(await run({ from, to, dryRun: true })).toMatchObject({ warnings: [warning], faults: [] });
      const session = lab.session();
      const { faults, items } = await restore({ from, to }, session.backends, session.options);
      expect(faults).toEqual([]);
      expect(items).toMatchObject([{ outcome: 'copied' }, { outcome: 'copied' }]);
      const said = session.events.flatMap((event) => ('message' in event ? [event.message] : []));
      expect(said).toEqual([warning, `${name}/app: created with tagMutability "IMMUTABLE"`]);
      // the repository exists now, and its settings are left alone
      expect(await run({ from, to })).toMatchObject({ warnings: [warning], faults: [] });
      expect(await run({ from, to, settings: 'none' })).toMatchObject({ warnings: [], faults: [] });
    },
  );

  test('is reported as a line of text and of JSON, and the restore exits 0', async () => {
    const { from, to, place, overwrite } = await sealed('sealed-said');
    await overwrite({});
    const printed = async (...flags: readonly string[]): Promise<string> => {
      const { code, stderr } = await transship('restore', ...flags, from, to);
      expect(code, stderr).toBe(0);
      return stderr;
    };
    const message = `settings of sealed-said/app: ${place} is not the one that 2 of its archives were written with: it was changed since, or replaced`;
    expect((await printed('--dry-run', '--quiet')).split('\n')).toContain(`warning: ${message}`);
    const events = (await printed('--json')).trim().split('\n');
    expect(events.map((line): unknown => JSON.parse(line))).toContainEqual(
      expect.objectContaining({ type: 'warning', message }),
    );
  });

  test('is counted by the archives that were not written again since the settings changed', async () => {
    const { from, to, place, backUp } = await sealed('sealed-since');
    const { backends } = lab.session();
    await backends.registry(ecr.registryHost, 'target').applySettings('sealed-since/app', { scanOnPush: true });
    await lab.push(await makeImage({ seed: 710, tag: 'v2', layers: [2000] }), ecr, 'sealed-since/app');
    expect(await backUp()).toMatchObject({ faults: [], items: [{ outcome: 'unchanged' }, { outcome: 'copied' }] });
    const warning = `settings of sealed-since/app: ${place} is not the one that 1 of its archives was written with: it was changed since, or replaced`;
    expect(await run({ from, to })).toMatchObject({ warnings: [warning], faults: [] });
    expect(await settingsOf('sealed-since/app', otherEcr)).toMatchObject({ scanOnPush: true });
  });

  test('is a warning where it was deleted, before the repository is created without its settings', async () => {
    const { from, to, place } = await sealed('sealed-deleted');
    const client = clientOf(lab.stack.s3);
    await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: place.slice(`s3://${bucket}/`.length) }));
    client.destroy();
    const warning =
      'settings of sealed-deleted/app: there is no repository.json beside its archives, and 2 of them were written with one: it was deleted';
    expect(await run({ from, to, settings: 'none' })).toMatchObject({ warnings: [], faults: [] });
    expect(await run({ from, to })).toMatchObject({ warnings: [warning], faults: [] });
    const other = `docker://${registry.registryHost}`;
    expect(await run({ from, to: other })).toMatchObject({ warnings: [], faults: [] });
  });

  test('is unknown in a folder, which keeps no metadata', async () => {
    const folder = join(lab.folder, 'sealed');
    await lab.push(await makeImage({ seed: 711, layers: [2000] }), ecr, 'sealed-folder/app');
    const { backends, options } = lab.session();
    await backup({ from: `${HOME}/sealed-folder/app`, to: `oci-archive:${folder}/` }, backends, options);
    const document = { format: 1, repository: 'sealed-folder/app', settings: { scanOnPush: true } };
    const key = 'us-east-1/sealed-folder/app/repository.json';
    await backends.folder(folder).write(key, Buffer.from(JSON.stringify(document)));
    const to = `docker://${otherEcr.registryHost}`;
    expect(await run({ from: `oci-archive:${folder}/`, to })).toMatchObject({ warnings: [], faults: [] });
    expect(await settingsOf('sealed-folder/app', otherEcr)).toMatchObject({ scanOnPush: true });
  });
});
