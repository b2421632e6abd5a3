import { existsSync } from 'node:fs';
import { readSettings, SettingsError, type Here } from './settings.ts';
import type { InfraSettings } from './schema.ts';

const DEFAULT_FILE = 'transship.infra.yaml';

/**
 * Reads the settings from the file that TRANSSHIP_INFRA names, else from transship.infra.yaml. `fallback`: a file to use where neither exists,
 * with a notice on stderr; only commands that deploy nothing pass one. `standIn`: what stands for an account and a Region that neither the file
 * nor credentials name, with a notice too; only for templates that are not kept.
 */
export function findSettings(fallback?: string, standIn?: Required<Here>): InfraSettings {
  const named = process.env['TRANSSHIP_INFRA'];
  if (named !== undefined && named !== '') return readOrShow(named, standIn);
  if (fallback === undefined || existsSync(DEFAULT_FILE)) return readOrShow(DEFAULT_FILE, standIn);
  process.stderr.write(`there is no ${DEFAULT_FILE}, and TRANSSHIP_INFRA is not set: showing ${fallback}\n`);
  return readSettings(fallback);
}

function readOrShow(file: string, standIn: Required<Here> | undefined): InfraSettings {
  const here = ofCredentials();
  try {
    return readSettings(file, here);
  } catch (error) {
    if (standIn === undefined || !(error instanceof SettingsError)) throw error;
    const settings = readSettings(file, { ...standIn, ...here });
    const { account, region } = settings;
    process.stderr.write(
      `${file} and credentials do not name both account and region: showing ${account}, ${region}\n`,
    );
    return settings;
  }
}

/** The account and Region of the credentials that `cdk` deploys with, which it passes to the app: https://docs.aws.amazon.com/cdk/v2/guide/configure-env.html */
function ofCredentials(): Here {
  const { CDK_DEFAULT_ACCOUNT: account, CDK_DEFAULT_REGION: region } = process.env;
  return { ...(account ? { account } : {}), ...(region ? { region } : {}) };
}
