// docs/commands.md is the output of `--help`.
import { expect, test } from 'vitest';
import { runCommand } from '../../support/command-line.ts';
import { commandsIn } from '../../support/help.ts';

const INTRODUCTION = `# Commands

What \`transship COMMAND --help\` prints, for each command. A test compares this page with the program;
\`npx vitest run test/unit/main/commands-docs.test.ts -u\` writes it.
`;

async function help(...command: readonly string[]): Promise<string> {
  const { code, stdout } = await runCommand([...command, '--help'], { env: {}, columns: 100 });
  expect(code).toBe(0);
  return stdout.trimEnd();
}

test('docs/commands.md has every command as --help prints it', async () => {
  const all = await help();
  const chapters = [`## transship\n\n\`\`\`text\n${all}\n\`\`\``];
  const add = async (...command: readonly string[]): Promise<void> => {
    const text = await help(...command);
    chapters.push(`## ${command.join(' ')}\n\n\`\`\`text\n${text}\n\`\`\``);
    if (command.length === 1) for (const name of commandsIn(text)) await add(...command, name);
  };
  for (const name of commandsIn(all)) await add(name);
  expect(chapters.length).toBeGreaterThan(25);
  await expect(`${INTRODUCTION}\n${chapters.join('\n\n')}\n`).toMatchFileSnapshot('../../../docs/commands.md');
});
