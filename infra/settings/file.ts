import { existsSync } from 'node:fs';
import { readSettings, type Here } from './settings.ts';
import type { InfraSettings } from './schema.ts';

const DEFAULT_FILE = 'transship.infra.yaml';

/**
 * Reads the settings from the file that TRANSSHIP_INFRA names, else from transship.infra.yaml. `fallback`: a file to use where neither exists,
 * with a notice on stderr; only commands that deploy nothing pass one.
 */
export function findSettings(fallback?: string): InfraSettings {
  const here = ofCredentials();
  const named = process.env['TRANSSHIP_INFRA'];
  if (named !== undefined && named !== '') return readSettings(named, here);
  if (fallback === undefined || existsSync(DEFAULT_FILE)) return readSettings(DEFAULT_FILE, here);
  process.stderr.write(`there is no ${DEFAULT_FILE}, and TRANSSHIP_INFRA is not set: showing ${fallback}\n`);
  return readSettings(fallback);
}

/** The account and Region of the credentials that `cdk` deploys with, which it passes to the app: https://docs.aws.amazon.com/cdk/v2/guide/configure-env.html */
function ofCredentials(): Here {
  const { CDK_DEFAULT_ACCOUNT: account, CDK_DEFAULT_REGION: region } = process.env;
  return { ...(account ? { account } : {}), ...(region ? { region } : {}) };
}
