import { Tags, Validations, type App, type IStackSynthesizer } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';
import type { InfraSettings } from './settings.ts';
import { TransshipStack } from './transship-stack.ts';

export interface StacksOptions {
  /** How stacks find their assets. @default as `cdk bootstrap` laid it out */
  readonly synthesizer?: () => IStackSynthesizer;
}

/**
 * The stacks of a deployment: `Transship`, and where the settings have them `TransshipVault` and `TransshipRegistries`. CloudFormation knows
 * them by the prefix of the settings. All are held to cdk-nag's rules for AWS solutions.
 */
export function addStacks(app: App, settings: InfraSettings, o: StacksOptions = {}): void {
  const { account, region, prefix, tags } = settings;
  const common = (): { readonly synthesizer?: IStackSynthesizer } =>
    o.synthesizer === undefined ? {} : { synthesizer: o.synthesizer() };

  new TransshipStack(app, 'Transship', {
    ...common(),
    stackName: prefix,
    description: 'Transship: mirrors container images and backs them up',
    env: { account, region },
    settings,
  });

  for (const [name, value] of Object.entries(tags)) Tags.of(app).add(name, value);
  Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
}
