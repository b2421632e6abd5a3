// Before each file: the files of a process share its environment and its modules, and one must not see what another left there.
import { forgetSecrets } from '../../worker/util/own-secrets.ts';

const KEY = Symbol.for('transship-test-environment');
const shared = globalThis as { [KEY]?: NodeJS.ProcessEnv };
const environment = (shared[KEY] ??= { ...process.env });

for (const name of Object.keys(process.env)) if (!(name in environment)) delete process.env[name];
Object.assign(process.env, environment);
forgetSecrets();
