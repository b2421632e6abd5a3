import type { Command } from 'commander';

/** Adds options below a heading of their own in the help of the command. */
export function inGroup(command: Command, heading: string, add: (command: Command) => void): Command {
  const before = command.optionsGroup();
  command.optionsGroup(heading);
  add(command);
  return command.optionsGroup(before);
}
