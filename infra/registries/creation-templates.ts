import { Stack, type StackProps } from 'aws-cdk-lib';
import { CfnRepositoryCreationTemplate } from 'aws-cdk-lib/aws-ecr';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Construct } from 'constructs';
import { regionOf } from '../settings/arn.ts';
import { lifecyclePolicyText } from './lifecycle-policy.ts';
import { ReplicationEvents } from './replication-events.ts';
import type { InfraSettings } from '../settings/schema.ts';
import { acknowledgeWildcard } from '../synth/wildcards.ts';

type Registries = NonNullable<InfraSettings['registries']>;
type Template = Registries['templates'][number];

export interface CreationTemplatesProps {
  /** Templates whose key is in another Region are left out. */
  readonly templates: readonly Template[];
  /** What ECR uses them for. @default `appliedFor` of each template */
  readonly appliedFor?: Template['appliedFor'];
  /** Tags of the repositories that ECR creates. */
  readonly tags: InfraSettings['tags'];
}

/** The settings of repositories that ECR creates itself: replicas, and repositories that a push names first. Existing ones stay as they are. */
export class CreationTemplates extends Construct {
  constructor(scope: Construct, id: string, { templates, tags, ...props }: CreationTemplatesProps) {
    super(scope, id);
    const here = templates.filter((template) => isFor(template, Stack.of(this).region));
    const tagged = Object.keys(tags).length > 0;
    const role = here.some(({ key }) => tagged || key !== undefined) ? this.#addRole(here, tagged) : undefined;
    for (const template of here) {
      const { prefix, key } = template;
      const appliedFor = props.appliedFor ?? template.appliedFor;
      // https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates.html
      const immutable = template.immutable ?? !appliedFor.includes('PULL_THROUGH_CACHE');
      const lifecyclePolicy = lifecyclePolicyText(template);
      const resource = new CfnRepositoryCreationTemplate(this, `Template-${prefix}`, {
        // ECR adds the "/" itself, while a prefix of replication includes it
        prefix: templatePrefix(prefix),
        appliedFor,
        description: 'Transship',
        imageTagMutability: immutable ? 'IMMUTABLE' : 'MUTABLE',
        encryptionConfiguration:
          key === undefined ? { encryptionType: 'AES256' } : { encryptionType: 'KMS', kmsKey: key },
        ...(lifecyclePolicy === undefined ? {} : { lifecyclePolicy }),
        ...(tagged ? { resourceTags: Object.entries(tags).map(([name, value]) => ({ key: name, value })) } : {}),
        ...(role !== undefined && (tagged || key !== undefined) ? { customRoleArn: role.roleArn } : {}),
      });
      // the policy of the role is a separate resource: the template has to wait for it too
      if (role !== undefined) resource.node.addDependency(role);
    }
  }

  /** Without this role, ECR can neither tag repositories that it creates nor use a key: https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates-custom.html */
  #addRole(templates: readonly Template[], tagged: boolean): Role {
    const role = new Role(this, 'Role', {
      assumedBy: new ServicePrincipal('ecr.amazonaws.com'),
      description: 'Creates repositories by the creation templates of Transship',
    });
    const stack = Stack.of(this);
    // a template covers names that begin with its prefix, which are not known in advance
    const resources = [
      ...new Set(templates.map(({ prefix }) => (prefix === 'ROOT' ? '*' : `${templatePrefix(prefix)}/*`))),
    ].map((resourceName) => stack.formatArn({ service: 'ecr', resource: 'repository', resourceName }));
    role.addToPolicy(
      new PolicyStatement({
        actions: ['ecr:CreateRepository', 'ecr:ReplicateImage', ...(tagged ? ['ecr:TagResource'] : [])],
        resources,
      }),
    );
    const keys = [...new Set(templates.flatMap(({ key }) => (key === undefined ? [] : [key])))];
    if (keys.length > 0)
      role.addToPolicy(
        new PolicyStatement({ actions: ['kms:CreateGrant', 'kms:DescribeKey', 'kms:RetireGrant'], resources: keys }),
      );
    for (const resource of resources)
      acknowledgeWildcard(
        role,
        resource,
        'The names of future repositories are not known. The ARN covers those that the templates are for.',
      );
    return role;
  }
}

export interface ReplicasStackProps extends StackProps {
  /** The settings whose templates apply. */
  readonly registries: Registries;
  /** The Region that images come from, which has the alarms. */
  readonly home: string;
  /** Tags of the repositories that ECR creates. */
  readonly tags: InfraSettings['tags'];
}

/**
 * The creation templates for replicas in another Region of the account, and the rule that reports replication. A template belongs to one registry,
 * and replication copies no settings.
 */
export class ReplicasStack extends Stack {
  constructor(scope: Construct, id: string, { home, registries, tags, ...props }: ReplicasStackProps) {
    super(scope, id, props);
    const templates = registries.templates.filter(isForReplicas);
    if (templates.some((template) => isFor(template, this.region)))
      new CreationTemplates(this, 'Templates', { templates, appliedFor: ['REPLICATION'], tags });
    new ReplicationEvents(this, 'Events', { home });
  }
}

/** The Regions of `account` that images are replicated to: each needs a `ReplicasStack`. */
export function replicaRegions({ replication }: Registries, account: string): readonly string[] {
  return [...new Set(replication.filter((to) => (to.account ?? account) === account).map((to) => to.region))];
}

function isForReplicas({ appliedFor }: Template): boolean {
  return appliedFor.includes('REPLICATION');
}

function isFor({ key }: Template, region: string): boolean {
  return key === undefined || regionOf(key) === region;
}

function templatePrefix(prefix: string): string {
  return prefix.replace(/\/$/, '');
}
