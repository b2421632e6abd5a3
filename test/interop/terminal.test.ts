import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeSampleImage } from '../../local/sample-image.ts';
import { startStack, type Stack } from '../../local/stack.ts';
import { createWorkspace, isInstalled, run, transship, type Environment } from '../support/interop-process.ts';
import { openTerminal, type Terminal } from '../support/tmux.ts';

const KIB = 1024;
const PLATFORMS = [
  { os: 'linux', architecture: 'amd64' },
  { os: 'linux', architecture: 'arm64' },
];

/** What differs from run to run: times, and what depends on them. */
function steady(text: string): string {
  return (
    text
      .replaceAll(/\b(?:\d+h\d\dm|\d+m\d\ds|\d+(?:\.\d)?s)\b/g, 'TIME')
      .replaceAll(/\b(?<!sha256:)[0-9a-f]{64}\b/g, 'ID')
      .replaceAll(/\b\d{4}-\d\d-\d\d \d\d:\d\d\b/g, 'DATE')
      .replaceAll(/\b127\.0\.0\.1:\d+/g, 'localhost')
      // a column is as wide as its times
      .replaceAll(/ {2,}(?=TIME|in TIME)/g, '  ')
      .replaceAll(/(?<=TIME(?: ago)?) {2,}/g, '  ')
      .replaceAll(/-{3,}/g, '---')
  );
}

/** The demo without what two workers do at once, and without its status, which lists runs in order of arrival. */
function steadyStory(text: string): string {
  return (
    steady(text)
      .replaceAll(/^ {4}[AB] .*\n/gm, '')
      .replaceAll(/\d+(?:\.\d+)? [KM]?i?B\b/g, 'SIZE')
      .replaceAll(/ {2,}(?=SIZE)/g, '  ')
      .replace(/ {4}rule +kind[^]*dead letters: 0\n/, '    STATUS\n')
      .replaceAll(/\b(worker|where) [AB]\b/g, '$1 X')
      // line breaks of a sentence depend on the sizes in it
      .replaceAll(/\n {7}(?=\S)/g, ' ')
      .replaceAll('(SIZE in TIME)', '(in TIME)')
  );
}

describe.skipIf(!isInstalled('tmux'))('a real terminal', async () => {
  const workspace = await createWorkspace();
  let stack: Stack;
  let env: Environment;
  afterAll(async () => {
    await stack[Symbol.asyncDispose]();
    await workspace[Symbol.asyncDispose]();
  });

  beforeAll(async () => {
    stack = await startStack({ folder: join(workspace.folder, 'stack') });
    // on the path, as an installed package is
    const bin = join(workspace.folder, 'bin');
    await mkdir(bin);
    const [node, [program = '']] = transship([]);
    await writeFile(join(bin, 'transship'), `#!/bin/sh\nexec '${node}' '${program}' "$@"\n`);
    await chmod(join(bin, 'transship'), 0o755);
    env = {
      ...workspace.env,
      ...stack.environment,
      PATH: `${bin}:${workspace.env['PATH'] ?? ''}`,
      TERM: 'xterm-256color',
    };
    for (const name of ['app', 'web']) {
      const made = join(workspace.folder, name);
      const layerBytes = [300 * KIB, 20 * KIB];
      await writeSampleImage(made, { tag: '1', platforms: PLATFORMS, layerBytes, version: name });
      const to = `docker://${stack.ecr.registryHost}/product/${name}:1.0`;
      await run(...transship(['copy', `oci:${made}:1`, to]), { env });
    }
  });

  async function inTerminal<T>(columns: number, work: (terminal: Terminal) => Promise<T>, rows = 40): Promise<T> {
    await using terminal = await openTerminal({ columns, rows, env, folder: workspace.folder });
    return await work(terminal);
  }

  describe.each([80, 120])('of %i columns', (columns) => {
    test('shows copy, backup, verify, sync, list, status and help as reviewed', async () => {
      const { ecr, otherEcr, bucket } = stack;
      const to = `s3://${bucket}/${columns}`;
      const rules = `rules-${columns}.yaml`;
      await writeFile(
        join(workspace.folder, rules),
        `version: 1
rules:
  - name: products
    mirror:
      from: ${ecr.registryHost}/product/*
      to: ${otherEcr.registryHost}/mirror-${columns}/{repository}
    schedule: "0 2 * * *"
`,
      );
      const commands = {
        copy: `transship copy ${ecr.registryHost}/product/app:1.0 ${otherEcr.registryHost}/hub-${columns}/app:1.0`,
        again: `transship copy ${ecr.registryHost}/product/app:1.0 ${otherEcr.registryHost}/hub-${columns}/app:1.0`,
        failed: `transship copy ${ecr.registryHost}/product/app:2.0 ${otherEcr.registryHost}/hub-${columns}/app:2.0`,
        backup: `transship backup '${ecr.registryHost}/product/*' ${to}/`,
        store: `transship backup ${ecr.registryHost} store:${to}-store/`,
        verify: `transship verify ${to}/`,
        sync: `transship sync -f ${rules}`,
        list: `transship list ${to}/`,
        apply: `transship apply -f ${rules}`,
        status: 'transship status',
        help: 'transship --help',
      };
      await inTerminal(columns, async (terminal) => {
        await terminal.run(`cd ${workspace.folder}`);
        for (const [name, command] of Object.entries(commands)) {
          const text = await terminal.run(command);
          await expect(`${steady(text)}\n`).toMatchFileSnapshot(`../golden/terminal/${name}-${columns}.txt`);
        }
      });
    });
  });

  describe.each([80, 120])('of %i columns', { concurrent: true }, (columns) => {
    // its own `expect`, because two tests run at the same time
    test('shows the demo as a story', async ({ expect: expectHere }) => {
      const text = await inTerminal(columns, async (terminal) => terminal.run('transship demo'), 300);
      expectHere(text).toMatch(/everything is back/);
      await expectHere(`${steadyStory(text)}\n`).toMatchFileSnapshot(`../golden/terminal/demo-${columns}.txt`);
    });
  });

  test('has colours for outcomes, and none with NO_COLOR', async () => {
    await inTerminal(100, async (terminal) => {
      const failing = `transship copy ${stack.ecr.registryHost}/product/none:1 oci:${workspace.folder}/none:1`;
      const copying = `transship copy ${stack.ecr.registryHost}/product/app:1.0 oci:${workspace.folder}/coloured:1`;
      await terminal.run(copying);
      expect(await terminal.coloured()).toContain('\u001b[32mcopied');
      await terminal.run(`NO_COLOR=1 ${failing}; NO_COLOR=1 ${copying}`);
      expect(await terminal.coloured()).not.toContain('\u001b[3');
    });
  });

  test('is left clean by bars, also when it is made narrower and the command is interrupted', async () => {
    const image = `${stack.ecr.registryHost}/product/web:1.0`;
    // each layer stays in transit
    stack.ecr.faults.add({ operation: 'blob-get', times: Infinity }, { kind: 'delay', ms: 600_000 });
    await inTerminal(120, async (terminal) => {
      await terminal.run('echo above');
      const before = await terminal.begin(
        `echo above; transship copy ${image} s3://${stack.bucket}/held.tar`,
        /in all/,
      );
      expect(before).toMatch(/docker:\/\/.*product\/web:1\.0\n(?: {2}sha256:.*B\n)+in all/);
      await terminal.resize(80);
      const after = await terminal.until(/in all/);
      expect(after.match(/in all/g)).toHaveLength(1);
      const ended = await terminal.press('C-c');
      expect(ended).toMatch(/\nabove\n(?:\^C)?transship: stopped by SIGINT; run the same command again to go on$/);
    });
    stack.ecr.faults.clear();
  });

  test('is asked for a name and a password, and never shows the password', async () => {
    await inTerminal(120, async (terminal) => {
      await terminal.begin(`transship login ${stack.ecr.registryHost}`, /User name:$/);
      await terminal.enter('ann', /Password or token:$/);
      await terminal.type('hidden-word');
      const ended = await terminal.press('Enter');
      expect(ended).toMatch(/\nUser name: ann\nPassword or token:\s*\n(?:transship|logged|warning)/);
      expect(ended).not.toContain('hidden');
      await terminal.begin(`transship login ${stack.ecr.registryHost} -u ann`, /Password or token:$/);
      expect(await terminal.press('C-c')).toContain('stopped by Ctrl-C');
    });
  });
});
