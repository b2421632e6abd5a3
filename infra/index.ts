import type { Construct } from 'constructs';
import type { StackProps } from 'aws-cdk-lib';
import type { z } from 'zod';
import { TransshipStack } from './service/transship-stack.ts';
import { infraSettings, SettingsError } from './settings/settings.ts';

type Settings = Omit<z.input<typeof infraSettings>, 'version' | 'account' | 'region'>;

export interface TransshipProps extends StackProps {
  /** As in transship.infra.yaml: docs/deployment.md describes every setting. `worker.image` is required. Account and Region are those of `env`. */
  readonly settings: Settings;
}

/** The running system of Transship, as a stack of an app of yours. */
export class Transship extends TransshipStack {
  /** Throws for settings that cannot be used, with one line for each error. */
  constructor(scope: Construct, id: string, { settings, ...props }: TransshipProps) {
    const account = props.env?.account ?? process.env['CDK_DEFAULT_ACCOUNT'];
    const region = props.env?.region ?? process.env['CDK_DEFAULT_REGION'];
    const { data, error } = infraSettings.safeParse({ version: 1, account, region, ...settings });
    const faults = error?.issues.map(({ message, path }) => `${path.join('.')}: ${message}`) ?? [];
    // the package does not contain the sources of the image
    if (data?.worker.image === undefined && faults.length === 0) faults.push('worker.image: it is missing');
    if (data === undefined || faults.length > 0) throw new SettingsError(faults.join('\n'));
    super(scope, id, { ...props, env: { account: data.account, region: data.region }, settings: data });
  }
}
