import { Tags, Validations, type App, type IStackSynthesizer } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';
import { ReplicasStack, replicaRegions } from '../registries/creation-templates.ts';
import { RegistriesStack } from '../registries/registries.ts';
import type { InfraSettings } from '../settings/schema.ts';
import { TransshipStack } from '../service/transship-stack.ts';
import { VaultStack } from '../backup/vault.ts';

export interface StacksOptions {
  /** How stacks find their assets. @default the synthesizer of CDK, which needs `cdk bootstrap` */
  readonly synthesizer?: () => IStackSynthesizer;
}

/**
 * Adds the stacks of a deployment: `Transship`, and where the settings have them `TransshipVault`, `TransshipRegistries` and one
 * `TransshipReplicas-<region>` for each Region with replicas. Their names in CloudFormation begin with the prefix of the settings. cdk-nag
 * checks all of them by its rules for AWS solutions.
 */
export function addStacks(app: App, settings: InfraSettings, options: StacksOptions = {}): void {
  const { account, region, prefix, tags, vault, registries, logKey, logRetentionDays } = settings;
  const common = (): { readonly synthesizer?: IStackSynthesizer } =>
    options.synthesizer === undefined ? {} : { synthesizer: options.synthesizer() };

  new TransshipStack(app, 'Transship', {
    ...common(),
    stackName: prefix,
    description: 'Transship: mirrors container images and backs them up',
    env: { account, region },
    settings,
  });

  if (vault !== undefined)
    new VaultStack(app, 'TransshipVault', {
      ...common(),
      stackName: `${prefix}-vault`,
      description: 'Transship: the vaults of the backup account',
      env: { account: vault.account, region: vault.region },
      prefix,
      sourceAccount: account,
      vault,
      emails: settings.notifications.emails,
      logRetentionDays,
      runbook: settings.alarms.runbook,
    });
  if (registries !== undefined) {
    const stack = new RegistriesStack(app, 'TransshipRegistries', {
      ...common(),
      stackName: `${prefix}-registries`,
      description: 'Transship: repositories, their replication and the roles that use them',
      env: { account, region },
      registries,
      tags,
      logRetentionDays,
      logKey,
    });
    for (const replicas of replicaRegions(registries, account))
      // a repository that ECR creates before its template exists does not get the template's settings
      stack.addStackDependency(
        new ReplicasStack(app, `TransshipReplicas-${replicas}`, {
          ...common(),
          stackName: `${prefix}-replicas`,
          description: 'Transship: settings of replicas of repositories, and events about replication',
          env: { account, region: replicas },
          registries,
          home: region,
          tags,
        }),
      );
  }

  for (const [name, value] of Object.entries(tags)) Tags.of(app).add(name, value);
  Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
}
