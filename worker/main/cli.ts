// Where the command line of the installed package begins: every command of the program.
import { startCommandLine } from './command-line.ts';

await startCommandLine();
