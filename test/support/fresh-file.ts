// Before each file: the files of a process share its environment and its modules, and one must not see what another left there.
import { forgetSecrets } from '../../worker/util/own-secrets.ts';

const KEY = Symbol.for('transship-test-environment');
const shared = globalThis as { [KEY]?: { readonly itself: NodeJS.ProcessEnv; readonly variables: NodeJS.ProcessEnv } };
const { itself, variables: environment } = (shared[KEY] ??= { itself: process.env, variables: { ...process.env } });

// vitest deletes only the variables of the first environment, so no test may replace the environment
if (process.env !== itself) throw new Error('a file before this one replaced process.env: stub its variables instead');
for (const name of Object.keys(process.env)) if (!(name in environment)) delete process.env[name];
Object.assign(process.env, environment);
forgetSecrets();
