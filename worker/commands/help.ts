import type { Command } from 'commander';

/** Adds options below a heading of their own in the help of the command. */
export function inGroup(command: Command, heading: string, add: (command: Command) => void): Command {
  const before = command.optionsGroup();
  command.optionsGroup(heading);
  add(command);
  return command.optionsGroup(before);
}

/** Adds examples to the end of the help of a command: each is a command line, and what it does. */
export function withExamples(
  command: Command,
  ...examples: readonly (readonly [line: string, does: string])[]
): Command {
  const text = examples.map(([line, does]) => `  # ${does}\n  transship ${line}`);
  return command.addHelpText('after', `\nExamples:\n${text.join('\n')}`);
}
