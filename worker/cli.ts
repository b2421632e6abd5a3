// Where the command line begins: every command, the embedded stack and the demo too.
import { enableCompileCache } from 'node:module';
import { setUpMemory } from './memory.ts';
import { stopOnSignals } from './signals.ts';

const stop = stopOnSignals();
setUpMemory();
// a third of the time that a short command takes is reading the program
enableCompileCache();
const [{ runProgram }, { addLocal }, { addDemo }] = await Promise.all([
  import('./program.ts'),
  import('./commands/local.ts'),
  import('./commands/demo.ts'),
]);
await runProgram(stop, [addLocal, addDemo]);
