import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Duration, RemovalPolicy, Size, Stack, Validations } from 'aws-cdk-lib';
import {
  AdjustmentType,
  ScalableTarget,
  ServiceNamespace,
  StepScalingAction,
} from 'aws-cdk-lib/aws-applicationautoscaling';
import { Alarm, ComparisonOperator, MathExpression, TreatMissingData, type IMetric } from 'aws-cdk-lib/aws-cloudwatch';
import { ApplicationScalingAction } from 'aws-cdk-lib/aws-cloudwatch-actions';
import { CfnPullTimeUpdateExclusion, Repository } from 'aws-cdk-lib/aws-ecr';
import { DockerImageAsset, Platform } from 'aws-cdk-lib/aws-ecr-assets';
import {
  AvailabilityZoneRebalancing,
  AwsLogDriverMode,
  CfnCluster,
  Cluster,
  ContainerImage,
  ContainerInsights,
  CpuArchitecture,
  FargateService,
  FargateTaskDefinition,
  LogDrivers,
  OperatingSystemFamily,
  PropagatedTagSource,
  type CapacityProviderStrategy,
} from 'aws-cdk-lib/aws-ecs';
import { Role } from 'aws-cdk-lib/aws-iam';
import { LogGroup } from 'aws-cdk-lib/aws-logs';
import type { IQueue } from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';
import { parseEcrImage } from '../settings/ecr-image.ts';
import { grantCalls, type Reach } from './grants.ts';
import type { Network } from './network.ts';
import { taskMetric } from '../monitoring/metrics.ts';
import type { InfraSettings } from '../settings/schema.ts';
import { ownService } from '../synth/own-service.ts';
import { acknowledgeWildcard } from '../synth/wildcards.ts';

export interface WorkersProps {
  /** The start of every name. */
  readonly prefix: string;
  /** The size, number and image of the workers. */
  readonly worker: InfraSettings['worker'];
  /** The queues whose messages decide the number of tasks. */
  readonly queues: { readonly jobs: IQueue; readonly requests?: IQueue | undefined };
  /** These are the large workers of a deployment. @default those that do everything else */
  readonly large?: { readonly diskGiB: number; readonly others: Workers } | undefined;
  /** The network that they run in. */
  readonly network: Network;
  /** What they may call. Large workers have the role of the others. */
  readonly reach: Reach;
  /** The environment variables that name the queues and the table. */
  readonly environment: Readonly<Record<string, string>>;
  /** How long logs are kept. */
  readonly logRetention: InfraSettings['logRetentionDays'];
}

const REPOSITORY_ROOT = fileURLToPath(new URL('../..', import.meta.url));
const HEALTH_PORT = '8080';
/** The user that the image runs as. */
const USER = '1000:1000';
/**
 * The longest that Fargate allows, and all the notice that Spot gives. A worker returns its jobs to the queue within STOP_SECONDS
 * (worker/util/stop.ts), and then exits whether or not it could.
 * https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-capacity-providers.html
 */
const STOP_TIMEOUT = Duration.seconds(120);
/** Jobs for each slot before scaling doubles the tasks: most jobs are shorter than the start of a task. */
const JOBS_PER_SLOT = 4;
/** A large job takes longer than the start of a task. */
const LARGE_JOBS_PER_SLOT = 1;
const PERIOD = Duration.minutes(1);
/** Periods without work before the last task stops. */
const IDLE_PERIODS = 5;

/** The service that runs jobs: as many tasks as there is work for, and none without work. */
export class Workers extends Construct {
  readonly service: FargateService;
  readonly cluster: Cluster;
  readonly role: Role;
  /** The capacity of its tasks, in the form that `transship scale --capacity` takes. */
  readonly capacity: string;
  readonly logGroup: LogGroup;

  constructor(scope: Construct, id: string, props: WorkersProps) {
    super(scope, id);
    const { large, network, worker } = props;
    this.logGroup = new LogGroup(this, 'Logs', {
      retention: props.logRetention,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    this.cluster = large?.others.cluster ?? this.#addCluster(network);
    this.role = large?.others.role ?? this.#addRole(props);
    this.service = this.#addService(this.#addTask(props), worker, network);
    this.capacity = strategiesOf(worker)
      .map(
        ({ capacityProvider, base = 0, weight = 0 }) => `${capacityProvider}=${weight}${base === 0 ? '' : `+${base}`}`,
      )
      .join(',');
    this.#scale(props);
  }

  #addCluster({ vpc }: Network): Cluster {
    const cluster = new Cluster(this, 'Cluster', {
      vpc,
      // only Container Insights has the number of running tasks
      containerInsightsV2: ContainerInsights.ENABLED,
    });
    // `enableFargateCapacityProviders` would add a resource that may be created after the service and deleted before it, which ECS refuses:
    // https://github.com/pahud/cdk-fargate-patterns/issues/71
    const { defaultChild } = cluster.node;
    if (!(defaultChild instanceof CfnCluster)) throw new Error('the cluster has no resource of CloudFormation');
    defaultChild.capacityProviders = ['FARGATE', 'FARGATE_SPOT'];
    return cluster;
  }

  #addRole({ prefix, reach }: WorkersProps): Role {
    const role = new Role(this, 'Role', {
      // other accounts name the role in the policies of their registries and buckets
      roleName: `${prefix}-worker-${Stack.of(this).region}`,
      description: 'Workers of Transship',
      assumedBy: ownService(this, 'ecs-tasks.amazonaws.com'),
    });
    grantCalls(role, 'worker', { ...reach, cluster: this.cluster });
    // otherwise a backup would count as a pull, and a lifecycle rule by the last pull would keep the image forever
    new CfnPullTimeUpdateExclusion(this, 'PullTimeExclusion', { principalArn: role.roleArn });
    return role;
  }

  #addTask({ environment, large, prefix, worker }: WorkersProps): FargateTaskDefinition {
    const task = new FargateTaskDefinition(this, 'Task', {
      // by deployment: two in a Region would count as revisions of each other
      family: `${prefix}-${large === undefined ? '' : 'large-'}worker`,
      cpu: worker.cpu,
      memoryLimitMiB: worker.memoryMiB,
      ...(large === undefined ? {} : { ephemeralStorageGiB: large.diskGiB }),
      runtimePlatform: {
        cpuArchitecture: worker.architecture === 'arm64' ? CpuArchitecture.ARM64 : CpuArchitecture.X86_64,
        operatingSystemFamily: OperatingSystemFamily.LINUX,
      },
      taskRole: this.role,
      volumes: [{ name: 'temporary' }],
    });
    const container = task.addContainer('worker', {
      image: this.#image(worker),
      ...(large === undefined ? {} : { command: ['worker', '--large'] }),
      environment: {
        ...environment,
        TRANSSHIP_SLOTS: String(worker.slots),
        TRANSSHIP_CONCURRENCY: String(worker.concurrency),
        TRANSSHIP_LOG_LEVEL: worker.logLevel,
        TRANSSHIP_HEALTH_PORT: HEALTH_PORT,
      },
      user: USER,
      readonlyRootFilesystem: true,
      stopTimeout: STOP_TIMEOUT,
      healthCheck: {
        command: ['CMD', 'node', '/app/bundle/health-check.js'],
        interval: Duration.seconds(30),
        timeout: Duration.seconds(10),
        retries: 3,
        startPeriod: Duration.seconds(30),
      },
      logging: LogDrivers.awsLogs({
        streamPrefix: 'worker',
        logGroup: this.logGroup,
        // a job never waits for CloudWatch: lines that do not fit into this buffer are dropped
        mode: AwsLogDriverMode.NON_BLOCKING,
        maxBufferSize: Size.mebibytes(25),
      }),
    });
    // the worker unpacks compressed archives of other tools there
    container.addMountPoints({ sourceVolume: 'temporary', containerPath: '/tmp', readOnly: false });
    Validations.of(task).acknowledge({
      id: 'AwsSolutions-ECS2',
      reason:
        'The environment names queues, a table and places. Credentials come from the role, and secrets are known by their ARNs only.',
    });
    if (task.executionRole !== undefined)
      acknowledgeWildcard(task.executionRole, '*', 'ecr:GetAuthorizationToken has no resource.');
    return task;
  }

  #image({ architecture, image }: InfraSettings['worker']): ContainerImage {
    if (image === undefined) {
      return ContainerImage.fromDockerImageAsset(
        new DockerImageAsset(this, 'Image', {
          directory: REPOSITORY_ROOT,
          platform: architecture === 'arm64' ? Platform.LINUX_ARM64 : Platform.LINUX_AMD64,
          buildArgs: { VERSION: versionOf(REPOSITORY_ROOT) },
        }),
      );
    }
    const ofEcr = parseEcrImage(image);
    if (ofEcr === undefined) return ContainerImage.fromRegistry(image);
    const { account, region, repository: repositoryName, reference } = ofEcr;
    const repositoryArn = Stack.of(this).formatArn({
      service: 'ecr',
      account,
      region,
      resource: 'repository',
      resourceName: repositoryName,
    });
    const repository = Repository.fromRepositoryAttributes(this, 'Repository', { repositoryArn, repositoryName });
    return ContainerImage.fromEcrRepository(repository, reference);
  }

  #addService(
    taskDefinition: FargateTaskDefinition,
    settings: InfraSettings['worker'],
    { publicAddresses, ready, securityGroup, subnets }: Network,
  ): FargateService {
    // without desiredCount, which each deployment would reset, however much work there is
    const service = new FargateService(this, 'Service', {
      cluster: this.cluster,
      taskDefinition,
      capacityProviderStrategies: strategiesOf(settings),
      vpcSubnets: subnets,
      securityGroups: [securityGroup],
      assignPublicIp: publicAddresses,
      // rebalancing would stop tasks that have work
      availabilityZoneRebalancing: AvailabilityZoneRebalancing.DISABLED,
      circuitBreaker: { enable: true, rollback: true },
      minHealthyPercent: 100,
      maxHealthyPercent: 200,
      // cost reports attribute tasks by the tags of the tasks
      propagateTags: PropagatedTagSource.SERVICE,
    });
    // ECS starts a task as soon as it creates the service, and three tasks that cannot pull their image fail the deployment
    service.node.addDependency(ready);
    // its policy lets ECS pull the image and write the log
    if (taskDefinition.executionRole !== undefined) service.node.addDependency(taskDefinition.executionRole);
    return service;
  }

  /**
   * Sets an exact number of tasks by the jobs that wait or run. Scaling in stops tasks without a job: a task with one is protected. Target tracking
   * could not start from zero tasks.
   */
  #scale({ large, queues, worker: { maxTasks, slots } }: WorkersProps): void {
    const { cluster, serviceName } = this.service;
    const what = large === undefined ? 'workers' : 'large workers';
    const scalingTarget = new ScalableTarget(this, 'Tasks', {
      serviceNamespace: ServiceNamespace.ECS,
      resourceId: `service/${cluster.clusterName}/${serviceName}`,
      scalableDimension: 'ecs:service:DesiredCount',
      minCapacity: 0,
      maxCapacity: maxTasks,
      role: Role.fromRoleArn(
        this,
        'ScalingRole',
        Stack.of(this).formatArn({
          service: 'iam',
          region: '',
          resource: 'role/aws-service-role/ecs.application-autoscaling.amazonaws.com',
          resourceName: 'AWSServiceRoleForApplicationAutoScaling_ECSService',
        }),
        { mutable: false },
      ),
    });
    const { sum, usingMetrics } = workIn(queues);
    const metric = new MathExpression({
      expression: sum,
      label: 'jobs that wait or run',
      // otherwise the default of five minutes applies, whatever the metrics have
      period: PERIOD,
      usingMetrics,
    });

    const work = new StepScalingAction(this, 'ByWork', {
      scalingTarget,
      adjustmentType: AdjustmentType.EXACT_CAPACITY,
      // for scaling in: a number that swings around a bound does not stop and start tasks
      cooldown: Duration.minutes(5),
    });
    for (const { tasks, from, to } of stepsOf(
      maxTasks,
      slots * (large === undefined ? JOBS_PER_SLOT : LARGE_JOBS_PER_SLOT),
    )) {
      // bounds are relative to the alarm's threshold
      work.addAdjustment({
        adjustment: tasks,
        lowerBound: from - 1,
        ...(to === undefined ? {} : { upperBound: to - 1 }),
      });
    }
    const workToDo = new Alarm(this, 'WorkToDo', {
      alarmDescription: `Scales the ${what} to the work. It notifies no one`,
      metric,
      comparisonOperator: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      threshold: 1,
      evaluationPeriods: 1,
      treatMissingData: TreatMissingData.NOT_BREACHING,
    });
    workToDo.addAlarmAction(new ApplicationScalingAction(work));

    const nothing = new StepScalingAction(this, 'ToNothing', {
      scalingTarget,
      adjustmentType: AdjustmentType.EXACT_CAPACITY,
    });
    nothing.addAdjustment({ adjustment: 0, lowerBound: 0 });
    const idle = new MathExpression({
      // without a task there is no alarm: CloudWatch repeats an alarm's action every minute, which would stop a task that a planner just started
      expression: `IF(${sum} == 0 AND FILL(tasks, REPEAT) > 0, 1, 0)`,
      label: 'tasks without a job',
      period: PERIOD,
      usingMetrics: {
        ...usingMetrics,
        tasks: taskMetric('DesiredTaskCount', this.service, { period: PERIOD, statistic: 'Maximum' }),
      },
    });
    const nothingToDo = new Alarm(this, 'NothingToDo', {
      alarmDescription: `Stops the ${what} when there is no work. It notifies no one`,
      metric: idle,
      comparisonOperator: ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
      threshold: 1,
      evaluationPeriods: IDLE_PERIODS,
      // a service without tasks may emit no metrics, and tasks that run keep the queues in use
      treatMissingData: TreatMissingData.NOT_BREACHING,
    });
    nothingToDo.addAlarmAction(new ApplicationScalingAction(nothing));
  }
}

/** The jobs that wait or run. SQS emits no metrics for a queue that was not used for six hours, which often is the queue of requests. */
function workIn({ jobs, requests }: WorkersProps['queues']): {
  readonly sum: string;
  readonly usingMetrics: Record<string, IMetric>;
} {
  const most = { period: PERIOD, statistic: 'Maximum' };
  const usingMetrics = {
    visible: jobs.metricApproximateNumberOfMessagesVisible(most),
    inFlight: jobs.metricApproximateNumberOfMessagesNotVisible(most),
    ...(requests === undefined
      ? {}
      : {
          requested: requests.metricApproximateNumberOfMessagesVisible(most),
          begun: requests.metricApproximateNumberOfMessagesNotVisible(most),
        }),
  };
  const filled = Object.keys(usingMetrics).map((name) => `FILL(${name}, 0)`);
  return { sum: `SUM([${filled.join(', ')}])`, usingMetrics };
}

function strategiesOf({
  onDemandBase,
  onDemandWeight,
  spotWeight,
}: InfraSettings['worker']): CapacityProviderStrategy[] {
  const strategies: CapacityProviderStrategy[] = [
    { capacityProvider: 'FARGATE_SPOT', weight: spotWeight },
    { capacityProvider: 'FARGATE', weight: onDemandWeight, ...(onDemandBase === 0 ? {} : { base: onDemandBase }) },
  ];
  return strategies.filter(({ base = 0, weight = 0 }) => base + weight > 0);
}

interface Step {
  readonly tasks: number;
  /** The step is for this number of jobs and more, below `to`. */
  readonly from: number;
  readonly to: number | undefined;
}

/** The steps of scaling: 1, 2, 4 tasks and so on up to `maxTasks`, each when there are `jobsPerTask` for every task of the step before. */
export function stepsOf(maxTasks: number, jobsPerTask: number): readonly Step[] {
  const tasks: number[] = [];
  for (let some = 1; some < maxTasks; some *= 2) tasks.push(some);
  tasks.push(maxTasks);
  const from = tasks.map((_, i) => (tasks[i - 1] ?? 0) * jobsPerTask || 1);
  return tasks.map((some, i) => ({ tasks: some, from: from[i] ?? 1, to: from[i + 1] }));
}

function versionOf(root: string): string {
  const document: unknown = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'));
  const version: unknown = typeof document === 'object' && document !== null ? Reflect.get(document, 'version') : '';
  return String(version);
}
