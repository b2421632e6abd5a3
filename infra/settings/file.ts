import { existsSync } from 'node:fs';
import { readSettings, type Here } from './settings.ts';
import type { InfraSettings } from './schema.ts';

const DEFAULT_FILE = 'transship.infra.yaml';

/**
 * The settings of the file that TRANSSHIP_INFRA names, else of transship.infra.yaml. `fallback`: what to show where nobody has settings yet,
 * which is told on stderr; only commands that deploy nothing give one.
 */
export function findSettings(fallback?: string): InfraSettings {
  const here = ofCredentials();
  const named = process.env['TRANSSHIP_INFRA'];
  if (named !== undefined && named !== '') return readSettings(named, here);
  if (fallback === undefined || existsSync(DEFAULT_FILE)) return readSettings(DEFAULT_FILE, here);
  process.stderr.write(`there is no ${DEFAULT_FILE}, and TRANSSHIP_INFRA names none: showing ${fallback}\n`);
  return readSettings(fallback);
}

/** What `cdk` tells an app of the credentials that it deploys with: https://docs.aws.amazon.com/cdk/v2/guide/configure-env.html */
function ofCredentials(): Here {
  const { CDK_DEFAULT_ACCOUNT: account, CDK_DEFAULT_REGION: region } = process.env;
  return { ...(account ? { account } : {}), ...(region ? { region } : {}) };
}
