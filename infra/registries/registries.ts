import { RemovalPolicy, Stack, Tags, Validations, type StackProps } from 'aws-cdk-lib';
import {
  CfnRegistryPolicy,
  CfnReplicationConfiguration,
  CfnRepository,
  Repository,
  RepositoryEncryption,
  TagMutability,
  type IRepository,
} from 'aws-cdk-lib/aws-ecr';
import { AccountPrincipal, PolicyDocument, PolicyStatement } from 'aws-cdk-lib/aws-iam';
import { Key } from 'aws-cdk-lib/aws-kms';
import { LogGroup, type ILogGroup } from 'aws-cdk-lib/aws-logs';
import type { Construct } from 'constructs';
import { AdoptedRepository } from './adopted-repository.ts';
import { CreationTemplates } from './creation-templates.ts';
import { repositoryPolicy } from './repository-policy.ts';
import { lifecyclePolicyText, retentionOf, SHAPES, type RepositorySettings } from './lifecycle-policy.ts';
import { addRegistryOutputs } from './registry-outputs.ts';
import { RegistryRoles } from './registry-roles.ts';
import { ReplicationEvents } from './replication-events.ts';
import { groupDestinations } from './replication-rules.ts';
import { encryptLogs } from '../synth/log-key.ts';
import type { InfraSettings } from '../settings/schema.ts';

export type RegistrySettings = NonNullable<InfraSettings['registries']>;

export interface RegistriesStackProps extends StackProps {
  /** What is to be there. */
  readonly registries: RegistrySettings;
  /** Of repositories that ECR makes by a template. */
  readonly tags: InfraSettings['tags'];
  /** How long logs are kept. */
  readonly logRetentionDays: InfraSettings['logRetentionDays'];
  /** A customer's key for them. @default a key that AWS owns */
  readonly logKey?: string | undefined;
}

/**
 * Repositories of ECR in one account and region, what replicates them and who may use them. Repositories outlive the stack.
 *
 * What replicates and who may replicate in is one document for the whole registry each: this stack has all of it.
 */
export class RegistriesStack extends Stack {
  constructor(scope: Construct, id: string, props: RegistriesStackProps) {
    super(scope, id, props);
    const { registries } = props;
    const logGroup = registries.repositories.some(({ existing }) => existing)
      ? new LogGroup(this, 'AdoptionLogs', {
          retention: props.logRetentionDays,
          removalPolicy: RemovalPolicy.DESTROY,
        })
      : undefined;
    const repositories = registries.repositories.map((settings) => ({
      settings,
      repository: logGroup !== undefined && settings.existing ? this.#adopt(settings, logGroup) : this.#add(settings),
    }));
    this.#replicate(registries.replication);
    if (registries.templates.length > 0)
      new CreationTemplates(this, 'Templates', { templates: registries.templates, tags: props.tags });
    this.#admitReplication(registries.replicationSources);
    new RegistryRoles(this, 'Roles', { repositories, roles: registries.roles });
    this.#reportReplication(registries.replicationSources);
    addRegistryOutputs(this, registries);
    encryptLogs(this, props.logKey);
  }

  #add(settings: RepositorySettings): IRepository {
    const { name, immutable, scanOnPush, key, tags } = settings;
    const shape = SHAPES[settings.shape ?? 'production'];
    const id = `Repository-${name}`;
    const repository = new Repository(this, id, {
      repositoryName: name,
      imageTagMutability: (immutable ?? shape.immutable) ? TagMutability.IMMUTABLE : TagMutability.MUTABLE,
      imageScanOnPush: scanOnPush ?? shape.scanOnPush,
      ...(key === undefined
        ? { encryption: RepositoryEncryption.AES_256 }
        : { encryption: RepositoryEncryption.KMS, encryptionKey: Key.fromKeyArn(this, `${id}-Key`, key) }),
      removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    });
    const text = lifecyclePolicyText(retentionOf(settings));
    const { defaultChild } = repository.node;
    if (!(defaultChild instanceof CfnRepository)) throw new Error('a repository of CDK without one of CloudFormation');
    if (text !== undefined) defaultChild.lifecyclePolicy = { lifecyclePolicyText: text };
    for (const statement of repositoryPolicy(this, settings)) repository.addToResourcePolicy(statement);
    if (settings.pullOrganization !== undefined)
      Validations.of(repository).acknowledge({
        id: 'AwsSolutions-ECR1',
        reason: 'A condition admits the principals of one organization alone.',
      });
    for (const [tag, value] of Object.entries(tags)) Tags.of(repository).add(tag, value);
    return repository;
  }

  #adopt(settings: RepositorySettings, logGroup: ILogGroup): IRepository {
    const { name } = settings;
    const statements = repositoryPolicy(this, settings);
    return new AdoptedRepository(this, `Repository-${name}`, {
      name,
      lifecyclePolicyText: lifecyclePolicyText(retentionOf(settings)),
      logGroup,
      policy: statements.length === 0 ? undefined : new PolicyDocument({ statements: [...statements] }),
    }).repository;
  }

  #replicate(replication: RegistrySettings['replication']): void {
    if (replication.length === 0) return;
    new CfnReplicationConfiguration(this, 'Replication', {
      replicationConfiguration: {
        rules: groupDestinations(replication, this.account).map(({ prefixes, destinations }) => ({
          destinations: destinations.map((to) => ({ registryId: to.account, region: to.region })),
          repositoryFilters:
            prefixes.length === 0 ? undefined : prefixes.map((filter) => ({ filter, filterType: 'PREFIX_MATCH' })),
        })),
      },
    });
  }

  /** ECR reports replication where images arrive: the source account has the alarms. */
  #reportReplication(sources: RegistrySettings['replicationSources']): void {
    for (const { account, reportTo } of sources)
      if (reportTo !== undefined)
        new ReplicationEvents(this, `ReplicationEvents-${account}`, { home: reportTo, account });
  }

  /** ECR reads the policy for every request to the registry, so it allows and denies nothing: https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry-permissions.html */
  #admitReplication(sources: RegistrySettings['replicationSources']): void {
    if (sources.length === 0) return;
    // the source names the repositories
    const begins = (prefix: string): string =>
      this.formatArn({ service: 'ecr', resource: 'repository', resourceName: `${prefix}*` });
    new CfnRegistryPolicy(this, 'RegistryPolicy', {
      policyText: new PolicyDocument({
        statements: sources.map(
          ({ account, prefixes }) =>
            new PolicyStatement({
              principals: [new AccountPrincipal(account)],
              actions: ['ecr:CreateRepository', 'ecr:ReplicateImage'],
              resources: prefixes.length === 0 ? [begins('')] : prefixes.map(begins),
            }),
        ),
      }),
    });
  }
}
