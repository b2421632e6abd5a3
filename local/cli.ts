// Where the command line of a checkout begins: every command of the program, and those of the embedded stack.
import { startCommandLine } from '../worker/main/command-line.ts';

await startCommandLine({
  local: async () => (await import('./commands/local.ts')).addLocal,
  demo: async () => (await import('./commands/demo.ts')).addDemo,
});
