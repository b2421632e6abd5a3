import { Aws, CfnOutput, RemovalPolicy, Stack, Validations, type StackProps } from 'aws-cdk-lib';
import { CfnReplicationConfiguration, CfnRepository, CfnRepositoryCreationTemplate } from 'aws-cdk-lib/aws-ecr';
import { CfnRole } from 'aws-cdk-lib/aws-iam';
import type { Construct } from 'constructs';
import { lifecyclePolicyText, type Retention } from '../registries/lifecycle-policy.ts';
import { ReplicationEvents } from '../registries/replication-events.ts';
import { acknowledgeWildcard } from '../synth/wildcards.ts';
import { REGISTRIES_PARAMETERS, REGISTRY, REPLICAS_PARAMETERS, textOf, Values, when } from './parameters.ts';

const PULL = ['ecr:BatchCheckLayerAvailability', 'ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer'];
const PUSH = ['ecr:CompleteLayerUpload', 'ecr:InitiateLayerUpload', 'ecr:PutImage', 'ecr:UploadLayerPart'];
const SHAPES = ['production', 'testing'] as const;
type Shape = (typeof SHAPES)[number];

/** A repository for production and one for testing, their replication, and the roles that use them, for any account and Region. */
export class PortableRegistriesStack extends Stack {
  readonly #values: Values<keyof typeof REGISTRIES_PARAMETERS>;

  constructor(scope: Construct, id: string, props: StackProps) {
    super(scope, id, props);
    this.#values = new Values(this, REGISTRIES_PARAMETERS);
    const values = this.#values;
    const byNumber = values.isNot('TestingByNumber', 'TestingKeepLast', '0');
    const production = this.#addRepository('production', policyOf(KEEP_PRODUCTION));
    const testing = this.#addRepository('testing', when(byNumber, policyOf(KEEP_TESTING), policyOf(EXPIRE_TESTING)));
    this.#replicate();
    this.#addRole('Pull', 'Pulls images in production', [production], PULL);
    this.#addRole('Push', 'Pushes images from CI', [production, testing], [...PULL, ...PUSH]);
    this.#addOutputs();
    Validations.of(this).acknowledge({
      id: 'CloudFormation-Validate::W1030',
      reason: 'A condition leaves out the destination of an empty Region.',
    });
  }

  #addRepository(shape: Shape, policy: unknown): CfnRepository {
    const repository = new CfnRepository(this, shape === 'production' ? 'Production' : 'Testing', {
      repositoryName: nameOf(shape),
      imageTagMutability: shape === 'production' ? 'IMMUTABLE' : 'MUTABLE',
      encryptionConfiguration: { encryptionType: 'AES256' },
    });
    repository.addPropertyOverride('ImageScanningConfiguration.ScanOnPush', this.#values.ref('ScanOnPush'));
    repository.addPropertyOverride('LifecyclePolicy.LifecyclePolicyText', policy);
    repository.applyRemovalPolicy(RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE);
    return repository;
  }

  #replicate(): void {
    const values = this.#values;
    const first = values.given('Replicates', 'DestinationRegion');
    const second = values.given('ReplicatesTwice', 'SecondaryRegion');
    const replication = new CfnReplicationConfiguration(this, 'Replication', {
      replicationConfiguration: {
        rules: [
          {
            destinations: [{ registryId: Aws.ACCOUNT_ID, region: values.text('DestinationRegion') }],
            repositoryFilters: [{ filter: `${values.text('RepositoryPrefix')}/`, filterType: 'PREFIX_MATCH' }],
          },
        ],
      },
    });
    replication.cfnOptions.condition = first;
    values.needs(
      'SecondaryRegion',
      'DestinationRegion',
      'SecondaryRegion is the second Region: set DestinationRegion first',
    );
    values.differ('SecondaryRegion', 'DestinationRegion', 'SecondaryRegion is another Region than DestinationRegion');
    replication.addPropertyOverride(
      'ReplicationConfiguration.Rules.0.Destinations.1',
      when(second, { RegistryId: Aws.ACCOUNT_ID, Region: values.ref('SecondaryRegion') }),
    );
  }

  #addRole(
    id: 'Pull' | 'Push',
    description: string,
    repositories: readonly CfnRepository[],
    actions: readonly string[],
  ): void {
    const principal = `${id}PrincipalArn` as const;
    const role = new CfnRole(this, `${id}Role`, {
      description,
      assumeRolePolicyDocument: {
        Version: '2012-10-17',
        Statement: [{ Effect: 'Allow', Action: 'sts:AssumeRole', Principal: { AWS: this.#values.text(principal) } }],
      },
      policies: [
        {
          policyName: id,
          policyDocument: {
            Version: '2012-10-17',
            Statement: [
              { Effect: 'Allow', Action: 'ecr:GetAuthorizationToken', Resource: '*' },
              { Effect: 'Allow', Action: [...actions], Resource: repositories.map(({ attrArn }) => attrArn) },
            ],
          },
        },
      ],
    });
    const condition = this.#values.given(`Has${id}Role`, principal);
    role.cfnOptions.condition = condition;
    acknowledgeWildcard(role, '*', 'ecr:GetAuthorizationToken has no resource.');
    this.#output(`${id}RoleArn`, description, role.attrArn).condition = condition;
  }

  #addOutputs(): void {
    for (const shape of SHAPES) {
      const id = shape === 'production' ? 'Production' : 'Testing';
      this.#output(`${id}RepositoryName`, `The repository for ${shape}`, nameOf(shape));
      this.#output(`${id}RepositoryUri`, 'Its address', `${REGISTRY}/${nameOf(shape)}`);
    }
    const { region } = this;
    this.#output(
      'Login',
      'Signs docker in to the registry',
      `aws ecr get-login-password --region ${region} | docker login --username AWS --password-stdin ${REGISTRY}`,
    );
    this.#output(
      'CheckReplication',
      'Where an image was replicated to',
      `aws ecr describe-image-replication-status --repository-name ${nameOf('production')} --image-id imageTag=TAG --region ${region}`,
    );
  }

  #output(id: string, description: string, value: string): CfnOutput {
    return new CfnOutput(this, id, { description, value });
  }
}

/** The settings of replicas that ECR creates in another Region, and the rule that reports them to the Region of the alarms. */
export class PortableReplicasStack extends Stack {
  constructor(scope: Construct, id: string, props: StackProps) {
    super(scope, id, props);
    const values = new Values(this, REPLICAS_PARAMETERS);
    const template = new CfnRepositoryCreationTemplate(this, 'Template', {
      prefix: values.text('RepositoryPrefix'),
      appliedFor: ['REPLICATION'],
      description: 'Transship',
      imageTagMutability: 'IMMUTABLE',
      encryptionConfiguration: { encryptionType: 'AES256' },
    });
    template.addPropertyOverride('LifecyclePolicy', policyOf(KEEP_PRODUCTION));
    new ReplicationEvents(this, 'Events', { home: values.text('HomeRegion') });
  }
}

function nameOf(shape: Shape): string {
  return `${textOf('RepositoryPrefix')}/${shape}`;
}

/** Numbers that stand for parameters in the text of a lifecycle policy. */
const STANDS_FOR = {
  ProductionKeepLast: 90_001,
  TestingKeepLast: 90_002,
  TestingExpireAfterDays: 90_003,
  UntaggedAfterDays: 90_004,
};
const KEEP_PRODUCTION = { keepLast: STANDS_FOR.ProductionKeepLast, untaggedAfterDays: STANDS_FOR.UntaggedAfterDays };
const KEEP_TESTING = { keepLast: STANDS_FOR.TestingKeepLast, untaggedAfterDays: STANDS_FOR.UntaggedAfterDays };
const EXPIRE_TESTING = {
  expireAfterDays: STANDS_FOR.TestingExpireAfterDays,
  untaggedAfterDays: STANDS_FOR.UntaggedAfterDays,
};

/** The lifecycle policy that settings would make, with parameters for its numbers. */
function policyOf(retention: Retention): unknown {
  let text = lifecyclePolicyText(retention) ?? '';
  for (const [name, number] of Object.entries(STANDS_FOR)) text = text.replaceAll(String(number), `\${${name}}`);
  return { 'Fn::Sub': text };
}
