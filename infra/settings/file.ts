import { existsSync } from 'node:fs';
import { readSettings } from './settings.ts';
import type { InfraSettings } from './schema.ts';

const DEFAULT_FILE = 'transship.infra.yaml';

/**
 * The settings of the file that TRANSSHIP_INFRA names, else of transship.infra.yaml. `fallback`: what to show where nobody has settings yet,
 * which is told on stderr; only commands that deploy nothing give one.
 */
export function findSettings(fallback?: string): InfraSettings {
  const named = process.env['TRANSSHIP_INFRA'];
  if (named !== undefined && named !== '') return readSettings(named);
  if (fallback === undefined || existsSync(DEFAULT_FILE)) return readSettings(DEFAULT_FILE);
  process.stderr.write(`there is no ${DEFAULT_FILE}, and TRANSSHIP_INFRA names none: showing ${fallback}\n`);
  return readSettings(fallback);
}
