import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { APP, openLab } from '../support/interop-lab.ts';
import { isInstalled, transship } from '../support/interop-process.ts';

/** How each shell is started without settings of a user, and its first line of input. */
const SHELLS = {
  bash: { command: 'bash --norc --noprofile -i', begin: 'source <(transship completion bash)' },
  zsh: { command: 'zsh -f -i', begin: 'autoload -U compinit; compinit -u -D; source <(transship completion zsh)' },
  fish: { command: 'fish --no-config -i', begin: 'transship completion fish | source' },
};

/** zsh rings when several completions are possible. */
const BELL = String.fromCharCode(7);

describe('completion', async () => {
  const lab = await openLab();
  afterAll(() => lab[Symbol.asyncDispose]());
  // on the path, as an installed package is
  const bin = join(lab.folder, 'bin');
  await mkdir(bin);
  const [node, [program = '']] = transship([]);
  await writeFile(join(bin, 'transship'), `#!/bin/sh\nexec '${node}' '${program}' "$@"\n`);
  await chmod(join(bin, 'transship'), 0o755);
  const env = { ...lab.o.env, PATH: `${bin}:${lab.o.env['PATH'] ?? ''}`, TERM: 'dumb', PS1: '$ ' };

  /** The screen of a terminal once `typed` was completed to something that contains `answer`. */
  async function type(shell: keyof typeof SHELLS, typed: string, answer: string): Promise<string> {
    const { command, begin } = SHELLS[shell];
    const terminal = spawn('script', ['-qfec', command, '/dev/null'], { env, cwd: lab.folder, detached: true });
    const ended = once(terminal, 'close');
    let shown = '';
    const until = async (what: string): Promise<void> => {
      for await (const chunk of terminal.stdout.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        shown += stripVTControlCharacters(chunk.toString()).replaceAll(BELL, '');
        if (shown.includes(what)) return;
      }
      throw new Error(`${shell} never showed ${what}:\n${shown}`);
    };
    try {
      // the shell echoes what is typed: only the output of a command has the name in one piece
      terminal.stdin.write(`${begin}\recho rea""dy\r`);
      await until('ready');
      shown = '';
      terminal.stdin.write(typed);
      await until(answer);
      return shown;
    } finally {
      // the shell exits too
      process.kill(-(terminal.pid ?? 0), 'SIGKILL');
      await ended;
    }
  }

  describe.each(Object.keys(SHELLS) as (keyof typeof SHELLS)[])('%s', (shell) => {
    const there = isInstalled(shell) && isInstalled('script');
    test.skipIf(!there)('completes commands and options', async () => {
      await type(shell, 'transship insp\t', 'inspect ');
      await type(shell, 'transship copy --dry\t', '--dry-run ');
    });

    test.skipIf(!there)('completes repositories and tags of a registry', async () => {
      const { host } = lab.registry;
      await type(shell, `transship inspect ${host}/${APP.slice(0, -1)}\t`, `${host}/${APP}`);
      await type(shell, `transship inspect ${host}/${APP}:v\t`, `${APP}:v1`);
    });
  });

  test('offers each of several matching words', async () => {
    const shown = await type('bash', 'transship stat\t\t', 'status');
    expect(shown).toContain('stats');
  });
});
