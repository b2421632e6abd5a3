/** A module for `node --import`: writes the URLs of the loaded modules into the file that `LOADED` names when the process exits. */
export const RECORDER = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from 'node:module';
  import { writeFileSync } from 'node:fs';
  const loaded = new Set();
  registerHooks({ load: (url, context, next) => (loaded.add(url), next(url, context)) });
  process.on('exit', () => writeFileSync(process.env.LOADED, [...loaded].join('\\n')));
`)}`;
