/** A module for `node --import`: writes the URLs of the modules that were loaded into the file that `LOADED` names when the process ends. */
export const RECORDER = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from 'node:module';
  import { writeFileSync } from 'node:fs';
  const loaded = new Set();
  registerHooks({ load: (url, context, next) => (loaded.add(url), next(url, context)) });
  process.on('exit', () => writeFileSync(process.env.LOADED, [...loaded].join('\\n')));
`)}`;
