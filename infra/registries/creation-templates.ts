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
  /** Those whose key is of another region are left out. */
  readonly templates: readonly Template[];
  /** What ECR uses them for. @default what each of them says */
  readonly appliedFor?: Template['appliedFor'];
  /** Of the repositories that ECR makes. */
  readonly tags: InfraSettings['tags'];
}

/** How ECR makes repositories by itself, for replicas and for pushes to names that are not there yet. Those that are there stay as they are. */
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
        // ECR adds the "/" itself, where a prefix of replication has one of its own
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
      // not before the role may do what it is for: its policy is a resource of its own
      if (role !== undefined) resource.node.addDependency(role);
    }
  }

  /** Without a role of ours ECR can neither tag what it makes nor use a key: https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates-custom.html */
  #addRole(templates: readonly Template[], tagged: boolean): Role {
    const role = new Role(this, 'Role', {
      assumedBy: new ServicePrincipal('ecr.amazonaws.com'),
      description: 'Makes repositories as the creation templates of Transship have them',
    });
    const stack = Stack.of(this);
    // a template is of names that begin so, and none of them is known before
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
        'Repositories that are yet to be made have no names; it is those that the templates are for.',
      );
    return role;
  }
}

export interface ReplicasStackProps extends StackProps {
  /** Of these the templates. */
  readonly registries: Registries;
  /** The region that images come from, which has the alarms. */
  readonly home: string;
  /** Of the repositories that ECR makes. */
  readonly tags: InfraSettings['tags'];
}

/**
 * What replicas in another region of the account are made by, since a template is of one registry and replication copies no settings; and what
 * tells of them.
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

/** The regions of `account` that images are replicated to: each needs a `ReplicasStack`. */
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
