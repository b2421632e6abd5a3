/** The names of the commands that a text of `--help` lists, without `help` itself; none where its usage takes no command. */
export function commandsIn(help: string): readonly string[] {
  if (!/^Usage: .*\[command\]$/m.test(help)) return [];
  const [, listed = ''] = (help.split('\nExamples:\n')[0] ?? '').split(/^Usage: .*$/m);
  return [...listed.matchAll(/^ {2}([a-z][a-z-]*)(?:\|\w+)?(?: \[|  | <)/gm)]
    .map(([, name = '']) => name)
    .filter((name) => name !== 'help');
}
