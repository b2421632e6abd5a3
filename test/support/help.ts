/** The names of the commands in the output of `--help`, without `help` itself; none if its usage takes no command. */
export function commandsIn(help: string): readonly string[] {
  if (!/^Usage: .*\[command\]$/m.test(help)) return [];
  const [, listed = ''] = (help.split('\nExamples:\n')[0] ?? '').split(/^Usage: .*$/m);
  return [...listed.matchAll(/^ {2}([a-z][a-z-]*)(?:\|\w+)?(?: \[|  | <)/gm)]
    .map(([, name = '']) => name)
    .filter((name) => name !== 'help');
}
