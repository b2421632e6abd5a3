import { statSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { isAbsolute, join } from 'node:path';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Makes Node keep the compiled program in the folder that `NODE_COMPILE_CACHE` names, or else in `compileCacheFolder`. A folder that cannot be
 * written is not used.
 */
export function keepCompiled(env: Environment): void {
  const folder = compileCacheFolder(env);
  if (folder !== undefined) enableCompileCache(folder);
}

/**
 * A folder in `$XDG_CACHE_HOME` or `~/.cache`. Undefined where the environment names neither, and where it belongs to another user than `uid`,
 * because what it holds is run. For the same reason it is not Node's default below /tmp, which any user of the machine could have made.
 */
export function compileCacheFolder(env: Environment, uid: number | undefined = process.getuid?.()): string | undefined {
  const cache = pathIn(env, 'XDG_CACHE_HOME');
  const root = cache ?? pathIn(env, 'HOME');
  if (root === undefined) return undefined;
  const owner = statSync(root, { throwIfNoEntry: false })?.uid;
  if (owner === undefined || (uid !== undefined && owner !== uid)) return undefined;
  return cache === undefined ? join(root, '.cache', 'transship') : join(root, 'transship');
}

function pathIn(env: Environment, name: string): string | undefined {
  const value = env[name];
  return value !== undefined && isAbsolute(value) ? value : undefined;
}
