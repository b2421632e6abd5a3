import {
  Aws,
  CfnMapping,
  CfnOutput,
  CfnResource,
  Fn,
  Token,
  Validations,
  type CfnCondition,
  type StackProps,
} from 'aws-cdk-lib';
import { CfnScalableTarget } from 'aws-cdk-lib/aws-applicationautoscaling';
import { CfnSecurityGroup, CfnSubnet, CfnVPC, CfnVPCEndpoint } from 'aws-cdk-lib/aws-ec2';
import { CfnService, CfnTaskDefinition } from 'aws-cdk-lib/aws-ecs';
import { CfnRule } from 'aws-cdk-lib/aws-events';
import { CfnManagedPolicy, CfnPolicy, CfnRole } from 'aws-cdk-lib/aws-iam';
import { CfnLogGroup, CfnResourcePolicy } from 'aws-cdk-lib/aws-logs';
import { CfnBucket } from 'aws-cdk-lib/aws-s3';
import { CfnSchedule } from 'aws-cdk-lib/aws-scheduler';
import { CfnSubscription } from 'aws-cdk-lib/aws-sns';
import { CfnQueuePolicy } from 'aws-cdk-lib/aws-sqs';
import type { Construct, IConstruct } from 'constructs';
import { TransshipStack } from '../service/transship-stack.ts';
import { acknowledgeWildcard } from '../synth/wildcards.ts';
import { infraSettings } from '../settings/settings.ts';
import type { InfraSettings } from '../settings/schema.ts';
import { MOST_TASKS, REGISTRY, SERVICE_PARAMETERS, textOf, Values, when, WORKER_SIZES } from './parameters.ts';

/** The planner's slowest schedule: the periods of alarms are made for it. */
const PLAN_EVERY_MINUTES = 15;
/** Bits of the addresses of a subnet: two subnets of 128 addresses fit into the smallest VPC. */
const SUBNET_BITS = 7;
const NETWORK_GIVEN = 'With a VPC that exists already, there is nothing to wait for.';
const SIZES = 'WorkerSizes';

/**
 * The running system for any account and Region: everything that differs between deployments is a parameter. Settings that add or remove
 * resources, such as a vault, prune rules or a network with endpoints, need a template made from those settings.
 */
export class PortableServiceStack extends TransshipStack {
  readonly #values: Values<keyof typeof SERVICE_PARAMETERS>;

  constructor(scope: Construct, id: string, props: StackProps) {
    super(scope, id, { ...props, settings: settingsOfParameters() });
    this.#values = new Values(this, SERVICE_PARAMETERS);
    const values = this.#values;
    new CfnMapping(this, SIZES, { mapping: WORKER_SIZES });
    this.#addNetwork();
    this.#addWorkers();
    this.#addStorage();
    this.#addMonitoring();
    this.#addPublishing();
    for (const schedule of below(this, CfnSchedule))
      schedule.addPropertyOverride('ScheduleExpression', values.ref('PlannerSchedule'));
    for (const group of below(this, CfnLogGroup))
      group.addPropertyOverride('RetentionInDays', values.ref('LogRetentionDays'));
    this.#nameRepositories();
  }

  /** Creates a VPC where none is given. The security group is created in either case. */
  #addNetwork(): void {
    const values = this.#values;
    const creates = values.is('CreatesNetwork', 'VpcId', '');
    values.needs('VpcId', 'SubnetIds', 'VpcId needs SubnetIds: name the subnets of that VPC that tasks run in');
    values.needs('SubnetIds', 'VpcId', 'SubnetIds needs VpcId: name the VPC of these subnets');
    const network = this.node.findChild('Network');
    for (const resource of below(network, CfnResource)) {
      if (!(resource instanceof CfnSecurityGroup)) resource.cfnOptions.condition = creates;
      else resource.addPropertyOverride('VpcId', when(creates, resource.vpcId, values.ref('VpcId')));
    }
    for (const vpc of below(network, CfnVPC)) vpc.addPropertyOverride('CidrBlock', values.ref('VpcCidr'));
    const subnets = below(network, CfnSubnet);
    const ranges = Fn.cidr(values.text('VpcCidr'), subnets.length, String(SUBNET_BITS));
    subnets.forEach((subnet, i) => {
      subnet.addPropertyOverride('CidrBlock', Fn.select(i, ranges));
    });
    // a condition may leave them out, which what DependsOn names must not be
    const created = below(network, CfnResource).filter((one) => !(one instanceof CfnSecurityGroup));
    for (const service of below(this, CfnService)) {
      // CloudFormation creates what metadata refers to before the resource
      service.addMetadata(
        'Network',
        when(
          creates,
          created.map(({ ref }) => ref),
          '',
        ),
      );
      const { awsvpcConfiguration } = Object(this.resolve(service.networkConfiguration));
      const at = 'NetworkConfiguration.AwsvpcConfiguration';
      service.addPropertyOverride(
        `${at}.Subnets`,
        when(creates, Object(awsvpcConfiguration).subnets, values.ref('SubnetIds')),
      );
      service.addPropertyOverride(`${at}.AssignPublicIp`, when(creates, 'ENABLED', values.ref('PublicAddresses')));
    }
  }

  #addWorkers(): void {
    const values = this.#values;
    const isPrivate = values.given('HasPrivateImage', 'WorkerImageRepositoryArn');
    for (const task of below(this, CfnTaskDefinition))
      task.addPropertyOverride('RuntimePlatform.CpuArchitecture', values.ref('WorkerArchitecture'));
    for (const target of below(this, CfnScalableTarget))
      target.addPropertyOverride('MaxCapacity', values.ref('MaxTasks'));
    const execution = below(this.node.findChild('Workers'), CfnRole).find(({ node }) =>
      /ExecutionRole/.test(node.path),
    );
    if (execution === undefined) throw new Error('the task definition has no execution role');
    const policy = new CfnPolicy(this, 'PullOfWorkerImage', {
      policyName: 'PullOfWorkerImage',
      roles: [execution.ref],
      policyDocument: {
        Version: '2012-10-17',
        Statement: [
          { Effect: 'Allow', Action: 'ecr:GetAuthorizationToken', Resource: '*' },
          when(isPrivate, {
            Effect: 'Allow',
            Action: ['ecr:BatchCheckLayerAvailability', 'ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer'],
            Resource: values.ref('WorkerImageRepositoryArn'),
          }),
        ],
      },
    });
    acknowledgeWildcard(policy, '*', 'ecr:GetAuthorizationToken has no resource.');
    for (const service of below(this, CfnService)) {
      const policies = [policy, ...below(this.node.findChild('Workers'), CfnPolicy)];
      service.addOverride(
        'DependsOn',
        policies.map(({ logicalId }) => logicalId),
      );
      Validations.of(service).acknowledge(
        { id: 'CloudFormation-Validate::E1154', reason: 'SubnetIds is only used where VpcId is given.' },
        { id: 'CloudFormation-Validate::W2502', reason: NETWORK_GIVEN },
      );
    }
  }

  #addStorage(): void {
    const values = this.#values;
    const named = values.given('HasBucketName', 'BucketName');
    const stays = values.is('StaysInStandard', 'StorageClass', 'STANDARD');
    for (const bucket of below(this, CfnBucket)) {
      bucket.addPropertyOverride('BucketName', when(named, values.ref('BucketName')));
      const transition = { StorageClass: 'GLACIER_IR', TransitionInDays: 30 };
      bucket.addPropertyOverride(
        'LifecycleConfiguration.Rules.0.Transitions',
        when(stays, { Ref: 'AWS::NoValue' }, [transition]),
      );
    }
  }

  #addMonitoring(): void {
    const values = this.#values;
    const watched = values.is('IsWatched', 'EnableMonitoring', 'true');
    const mails = values.both('SendsMail', watched, values.given('HasEmail', 'NotificationEmail'));
    for (const resource of below(this.node.findChild('Monitoring'), CfnResource))
      resource.cfnOptions.condition = resource instanceof CfnSubscription ? mails : watched;
    for (const id of ['Dashboard', 'LogsOfEvents']) this.#output(id).condition = watched;
    for (const policy of below(this, CfnResourcePolicy)) policy.policyName = `${Aws.STACK_NAME}-events`;
  }

  #addPublishing(): void {
    const values = this.#values;
    const publishes = values.given('Publishes', 'PublishBucket');
    const some = values.given('HasPublishPrefix', 'PublishPrefix');
    values.needs('PublishPrefix', 'PublishBucket', 'PublishPrefix needs PublishBucket: name the bucket of these keys');
    values.needs('PublishRepository', 'PublishBucket', 'PublishRepository needs PublishBucket: name what is published');
    for (const rule of below(this.node.findChild('Queues'), CfnRule)) {
      // a name without a wildcard matches itself
      if (/Pushes/.test(rule.node.path))
        rule.addPropertyOverride('EventPattern.detail.repository-name', [
          { wildcard: values.ref('ReadRepositories') },
          { wildcard: values.ref('WriteRepositories') },
        ]);
      if (!/Objects/.test(rule.node.path)) continue;
      rule.cfnOptions.condition = publishes;
      rule.addPropertyOverride(
        'EventPattern.detail.object',
        when(some, { key: [{ prefix: values.ref('PublishPrefix') }] }),
      );
      this.#replaceInPolicies(publishes, String(this.resolve(rule.logicalId)));
    }
  }

  /**
   * Policies name what publish rules read and write. Without those parameters, policies name in their place what workers may reach anyway, and
   * leave out the rule of events, which then does not exist.
   */
  #replaceInPolicies(publishes: CfnCondition, rule: string): void {
    const named = this.#values.given('HasPublishRepository', 'PublishRepository');
    const instead = new Map<unknown, unknown>([
      ['PublishBucket', ['Publishes', { Ref: 'PublishBucket' }, this.resolve(below(this, CfnBucket)[0]?.ref)]],
      ['PublishRepository', [named.logicalId, { Ref: 'PublishRepository' }, { Ref: 'WriteRepositories' }]],
    ]);
    const replaced = (value: unknown): unknown => {
      if (typeof value !== 'object' || value === null) return value;
      if (Array.isArray(value)) return value.map(replaced);
      if ('Ref' in value && instead.has(value.Ref)) return { 'Fn::If': instead.get(value.Ref) };
      if ('Fn::GetAtt' in value && Array.isArray(value['Fn::GetAtt']) && value['Fn::GetAtt'][0] === rule)
        return when(publishes, value);
      return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, replaced(member)]));
    };
    for (const kind of [CfnPolicy, CfnManagedPolicy, CfnVPCEndpoint, CfnQueuePolicy])
      for (const resource of below<CfnPolicy | CfnManagedPolicy | CfnVPCEndpoint | CfnQueuePolicy>(this, kind)) {
        const document: unknown = this.resolve(resource.policyDocument);
        const after = replaced(document);
        if (JSON.stringify(after) !== JSON.stringify(document)) resource.addPropertyOverride('PolicyDocument', after);
      }
  }

  /** Puts the repositories of the parameters into the commands of outputs: REPOSITORY stands for what their wildcards match. */
  #nameRepositories(): void {
    const values = this.#values;
    const bucket = below(this, CfnBucket)[0]?.ref ?? '';
    const named = (name: 'ReadRepositories' | 'WriteRepositories'): string =>
      Fn.join('REPOSITORY', Fn.split('*', values.text(name)));
    const source = named('ReadRepositories');
    // beside the original
    const writesAll = values.is('WritesAll', 'WriteRepositories', '*');
    const target = Token.asString(when(writesAll, 'restored/REPOSITORY', named('WriteRepositories')));
    const archive = `s3://${bucket}/${Aws.REGION}/${source}/TAG.tar`;
    const registry = `docker://${REGISTRY}`;
    const commands = {
      Check3FirstBackup: `npx transship enqueue --wait ${registry}/${source}:TAG s3://${bucket}/`,
      Check4Verify: `npx transship verify ${archive}`,
      Check5Restore: `npx transship enqueue --wait ${archive} ${registry}/${target}:TAG`,
      Check6Replication: `aws ecr describe-image-replication-status --region ${Aws.REGION} --repository-name ${source} --image-id imageTag=TAG`,
    };
    for (const [id, command] of Object.entries(commands)) this.#output(id).value = command;
    this.#output('Check5Restore').description = 'Restores it next to the original';
    const output = (id: string, description: string, value: string): CfnOutput =>
      new CfnOutput(this, id, { description, value });
    output('BucketOfArchives', 'The bucket of the archives', bucket);
    output('DashboardName', 'The dashboard', `${textOf('Prefix')}-${Aws.REGION}`).condition =
      this.#output('Dashboard').condition;
  }

  #output(id: string): CfnOutput {
    const output = this.node.tryFindChild(id);
    if (!(output instanceof CfnOutput)) throw new Error(`there is no output ${id}`);
    return output;
  }
}

/** Default settings, with parameters for what differs. The names of parameters are known before their stack exists. */
function settingsOfParameters(): InfraSettings {
  const settings = infraSettings.parse({
    version: 1,
    account: '000000000000',
    region: 'us-east-1',
    network: { type: 'public' },
  });
  const size = (what: 'cpu' | 'memory'): number =>
    Token.asNumber({ 'Fn::FindInMap': [SIZES, { Ref: 'WorkerSize' }, what] });
  return {
    ...settings,
    prefix: textOf('Prefix'),
    planEveryMinutes: PLAN_EVERY_MINUTES,
    worker: {
      ...settings.worker,
      cpu: size('cpu'),
      memoryMiB: size('memory'),
      maxTasks: MOST_TASKS,
      image: textOf('WorkerImage'),
    },
    // with this class the alarms count both classes that the parameter may name
    bucket: {
      ...settings.bucket,
      storageClass: 'GLACIER_IR',
      keepOldVersionsDays: Token.asNumber({ Ref: 'KeepOldVersionsDays' }),
    },
    access: {
      ...settings.access,
      repositories: [
        { names: [textOf('ReadRepositories')], allow: 'read' },
        { names: [textOf('WriteRepositories'), textOf('PublishRepository')], allow: 'write' },
      ],
    },
    publish: { prefixes: [`s3://${textOf('PublishBucket')}/${textOf('PublishPrefix')}`] },
    notifications: { ...settings.notifications, emails: [textOf('NotificationEmail')] },
  };
}

/** The resources of a kind below a construct. */
function below<T extends CfnResource>(construct: IConstruct, kind: abstract new (...args: never[]) => T): readonly T[] {
  return construct.node.findAll().filter((child): child is T => child instanceof kind);
}
