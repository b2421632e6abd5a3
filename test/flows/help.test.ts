import { describe, expect, test } from 'vitest';
import { commandLine } from '../support/command-line.ts';
import { commandsIn } from '../support/help.ts';

const transship = commandLine({}, { columns: 200 });

async function helpOf(...command: readonly string[]): Promise<string> {
  const { code, stdout } = await transship(...command, '--help');
  expect(code).toBe(0);
  return stdout;
}

const COMMANDS = commandsIn(await helpOf());

describe('--help', () => {
  test('lists the commands by groups', async () => {
    const groups = [...(await helpOf()).matchAll(/^([A-Z][\w ]*):$/gm)].map(([, heading]) => heading);
    expect(groups).toEqual(['Options', 'Images', 'Backups', 'Rules on this machine', 'The deployed system', 'Others']);
    expect(COMMANDS).toEqual(expect.arrayContaining(['copy', 'login', 'status', 'completion']));
  });

  test('ends in examples whose flags exist, for every command', async () => {
    const asked = COMMANDS.map((name) => [name]);
    for (const names of asked) {
      const help = await helpOf(...names);
      if (names.length === 1) for (const below of commandsIn(help)) asked.push(names.concat(below));
      const [, examples = ''] = help.split('\nExamples:\n');
      const lines = examples.split('\n').filter((line) => line !== '' && !line.startsWith('  # '));
      expect(lines.length, names.join(' ')).toBeGreaterThan(0);
      for (const line of lines) {
        expect(line).toMatch(new RegExp(`^  transship ${names[0]}(?: |$)`));
        const own = help.replace(examples, '');
        const isOfThis = line.startsWith(`  transship ${names.join(' ')} `) && !/\[command\]$/m.test(own);
        for (const [flag = ''] of isOfThis ? line.matchAll(/(?<= )--?[a-z][\w-]*/g) : [])
          expect(own, `${names.join(' ')}: ${flag}`).toMatch(new RegExp(`^  .*${flag}\\b`, 'm'));
      }
    }
  });

  test('shows a prune that deletes what the plan above it printed, and one of a store', async () => {
    const lines = (await helpOf('prune')).split('\n').map((line) => line.trim());
    const deleting = lines.find((line) => line.startsWith('transship prune') && line.endsWith(' --yes')) ?? '';
    expect(lines).toContain(deleting.replace(/ --yes$/, ''));
    expect(lines.some((line) => line.startsWith('transship prune store:'))).toBe(true);
  });

  test('groups options that many commands share', async () => {
    const groups = [...(await helpOf('copy')).matchAll(/^([A-Z][\w ]*):$/gm)].map(([, heading]) => heading);
    expect(groups).toEqual([
      'Arguments',
      'Options',
      'Several images',
      'Output',
      'How much at once',
      'New repositories',
      'The source',
      'The target',
      'Buckets',
      'Examples',
    ]);
  });
});
