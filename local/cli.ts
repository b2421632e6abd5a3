// Where the command line of a checkout begins: every command of the program, and those of the embedded stack.
import { startCommandLine } from '../worker/main/command-line.ts';

await startCommandLine(async () => {
  const [{ addLocal }, { addDemo }] = await Promise.all([import('./commands/local.ts'), import('./commands/demo.ts')]);
  return [addLocal, addDemo];
});
