// Before each file: properties try the same examples on each machine and in each run, so a commit passes everywhere or nowhere.
// TRANSSHIP_SEED=random tries others, TRANSSHIP_SEED=N those of the seed that a failure printed.
import { configureGlobal, readConfigureGlobal } from 'fast-check';

const SEED = 20_260_101;
const { seed: _, ...rest } = readConfigureGlobal();
const chosen = process.env['TRANSSHIP_SEED'] ?? String(SEED);
if (chosen === 'random') configureGlobal(rest);
else if (/^-?\d+$/.test(chosen)) configureGlobal({ ...rest, seed: Number(chosen) });
else throw new Error(`TRANSSHIP_SEED is ${chosen}: set it to random or to an integer`);
