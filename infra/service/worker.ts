import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Duration, RemovalPolicy, Size, Stack, Validations } from 'aws-cdk-lib';
import {
  AdjustmentType,
  ScalableTarget,
  ServiceNamespace,
  StepScalingAction,
} from 'aws-cdk-lib/aws-applicationautoscaling';
import { Alarm, ComparisonOperator, MathExpression, TreatMissingData } from 'aws-cdk-lib/aws-cloudwatch';
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
import { Construct } from 'constructs';
import { parseEcrImage } from '../settings/ecr-image.ts';
import { grantCalls, type Reach } from './grants.ts';
import type { Network } from './network.ts';
import { taskMetric } from '../monitoring/metrics.ts';
import type { InfraSettings } from '../settings/schema.ts';
import { ownService } from '../synth/own-service.ts';
import { acknowledgeWildcard } from '../synth/wildcards.ts';

export interface WorkersProps {
  /** What names begin with. */
  readonly prefix: string;
  /** Their size, number and image. */
  readonly worker: InfraSettings['worker'];
  /** Where they run. */
  readonly network: Network;
  /** What they may call. */
  readonly reach: Reach;
  /** Where the queues and the table are, by variable. */
  readonly environment: Readonly<Record<string, string>>;
  /** How long logs are kept. */
  readonly logRetention: InfraSettings['logRetentionDays'];
}

const REPOSITORY_ROOT = fileURLToPath(new URL('../..', import.meta.url));
const HEALTH_PORT = '8080';
/** Of the user that the image runs as. */
const USER = '1000:1000';
/**
 * The most that Fargate allows, and all the notice that Spot gives. A worker hands its jobs back within STOP_SECONDS (worker/util/stop.ts), and
 * then ends whether or not it could.
 * https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-capacity-providers.html
 */
const STOP_TIMEOUT = Duration.seconds(120);
/** Jobs of the queue for each slot, before there are twice as many tasks: most jobs are shorter than the start of a task. */
const JOBS_PER_SLOT = 4;
const PERIOD = Duration.minutes(1);
/** Jobs that wait or are being done. SQS has no metrics of a queue that was not used for six hours, as that of requests often is not. */
const SUM = 'SUM([FILL(visible, 0), FILL(inFlight, 0), FILL(requested, 0), FILL(begun, 0)])';
/** Without anything to do, until the last task goes. */
const IDLE_PERIODS = 5;

/** The service that does the jobs: as many tasks as there is work for, and none without. */
export class Workers extends Construct {
  readonly service: FargateService;
  /** Where its tasks run, as `transship scale --capacity` takes it. */
  readonly capacity: string;
  readonly logGroup: LogGroup;

  constructor(scope: Construct, id: string, props: WorkersProps) {
    super(scope, id);
    const { network, prefix, reach, worker } = props;
    this.logGroup = new LogGroup(this, 'Logs', {
      retention: props.logRetention,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    const cluster = new Cluster(this, 'Cluster', {
      vpc: network.vpc,
      // the number of tasks that run is known by it alone
      containerInsightsV2: ContainerInsights.ENABLED,
    });
    // not by `enableFargateCapacityProviders`: its resource of its own may come after the service and go before it, which ECS refuses:
    // https://github.com/pahud/cdk-fargate-patterns/issues/71
    const { defaultChild } = cluster.node;
    if (!(defaultChild instanceof CfnCluster)) throw new Error('a cluster of CDK without one of CloudFormation');
    defaultChild.capacityProviders = ['FARGATE', 'FARGATE_SPOT'];
    const role = new Role(this, 'Role', {
      // others name it in the policies of their registries and buckets
      roleName: `${prefix}-worker-${Stack.of(this).region}`,
      description: 'Workers of Transship',
      assumedBy: ownService(this, 'ecs-tasks.amazonaws.com'),
    });
    grantCalls(role, 'worker', { ...reach, cluster });
    // else a backup counts as a pull, and a lifecycle rule by the last pull would keep the image for ever
    new CfnPullTimeUpdateExclusion(this, 'PullTimeExclusion', { principalArn: role.roleArn });
    this.service = this.#addService(cluster, this.#addTask(role, props), worker, network);
    this.capacity = strategiesOf(worker)
      .map(
        ({ capacityProvider, base = 0, weight = 0 }) => `${capacityProvider}=${weight}${base === 0 ? '' : `+${base}`}`,
      )
      .join(',');
    this.#scale(worker, reach);
  }

  #addTask(taskRole: Role, { environment, prefix, worker }: WorkersProps): FargateTaskDefinition {
    const task = new FargateTaskDefinition(this, 'Task', {
      // by deployment: two in a Region would count as revisions of each other
      family: `${prefix}-worker`,
      cpu: worker.cpu,
      memoryLimitMiB: worker.memoryMiB,
      runtimePlatform: {
        cpuArchitecture: worker.architecture === 'arm64' ? CpuArchitecture.ARM64 : CpuArchitecture.X86_64,
        operatingSystemFamily: OperatingSystemFamily.LINUX,
      },
      taskRole,
      volumes: [{ name: 'temporary' }],
    });
    const container = task.addContainer('worker', {
      image: this.#image(worker),
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
        // a job never waits for CloudWatch: lines beyond this buffer are dropped instead
        mode: AwsLogDriverMode.NON_BLOCKING,
        maxBufferSize: Size.mebibytes(25),
      }),
    });
    // archives that others compressed are unpacked there
    container.addMountPoints({ sourceVolume: 'temporary', containerPath: '/tmp', readOnly: false });
    Validations.of(task).acknowledge({
      id: 'AwsSolutions-ECS2',
      reason:
        'The environment names a queue, a table and a bucket; credentials come by the role, and of secrets only their ARNs are known.',
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
    cluster: Cluster,
    taskDefinition: FargateTaskDefinition,
    settings: InfraSettings['worker'],
    { publicAddresses, ready, securityGroup, subnets }: Network,
  ): FargateService {
    // without desiredCount: each deployment would set it anew, whatever there is to do
    const service = new FargateService(this, 'Service', {
      cluster,
      taskDefinition,
      capacityProviderStrategies: strategiesOf(settings),
      vpcSubnets: subnets,
      securityGroups: [securityGroup],
      assignPublicIp: publicAddresses,
      // it would stop tasks that have work
      availabilityZoneRebalancing: AvailabilityZoneRebalancing.DISABLED,
      circuitBreaker: { enable: true, rollback: true },
      minHealthyPercent: 100,
      maxHealthyPercent: 200,
      // who pays for tasks is told by the tags of the tasks
      propagateTags: PropagatedTagSource.SERVICE,
    });
    // ECS starts a task as soon as it creates the service, and three tasks that cannot pull their image fail the deployment
    service.node.addDependency(ready);
    // its policy lets ECS pull the image and write the log
    if (taskDefinition.executionRole !== undefined) service.node.addDependency(taskDefinition.executionRole);
    return service;
  }

  /**
   * Steps to an exact number of tasks, by what waits or is being done. Fewer before it is done means that tasks without a job go: those that
   * have one are protected. Target tracking could not begin from nothing.
   */
  #scale({ maxTasks, slots }: InfraSettings['worker'], { jobs, requests }: Reach): void {
    const { cluster, serviceName } = this.service;
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
    const usingMetrics = {
      visible: jobs.metricApproximateNumberOfMessagesVisible({ period: PERIOD, statistic: 'Maximum' }),
      inFlight: jobs.metricApproximateNumberOfMessagesNotVisible({ period: PERIOD, statistic: 'Maximum' }),
      requested: requests.metricApproximateNumberOfMessagesVisible({ period: PERIOD, statistic: 'Maximum' }),
      begun: requests.metricApproximateNumberOfMessagesNotVisible({ period: PERIOD, statistic: 'Maximum' }),
    };
    const metric = new MathExpression({
      expression: SUM,
      label: 'jobs that wait or are being done',
      // else the default of five minutes counts, whatever the metrics have
      period: PERIOD,
      usingMetrics,
    });

    const work = new StepScalingAction(this, 'ByWork', {
      scalingTarget,
      adjustmentType: AdjustmentType.EXACT_CAPACITY,
      // of going down: a number that swings around a bound does not stop and start tasks
      cooldown: Duration.minutes(5),
    });
    for (const { tasks, from, to } of stepsOf(maxTasks, slots * JOBS_PER_SLOT)) {
      // bounds count from the alarm's threshold
      work.addAdjustment({
        adjustment: tasks,
        lowerBound: from - 1,
        ...(to === undefined ? {} : { upperBound: to - 1 }),
      });
    }
    const workToDo = new Alarm(this, 'WorkToDo', {
      alarmDescription: 'Scales the workers to what there is to do: no alarm for anybody',
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
      // without a task it is no alarm: CloudWatch repeats the action of one every minute, which would stop a task that a planner just started
      expression: `IF(${SUM} == 0 AND FILL(tasks, REPEAT) > 0, 1, 0)`,
      label: 'tasks without a job',
      period: PERIOD,
      usingMetrics: {
        ...usingMetrics,
        tasks: taskMetric('DesiredTaskCount', this.service, { period: PERIOD, statistic: 'Maximum' }),
      },
    });
    const nothingToDo = new Alarm(this, 'NothingToDo', {
      alarmDescription: 'Stops the workers when there is nothing to do: no alarm for anybody',
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
  /** Jobs, from this number on and below `to`. */
  readonly from: number;
  readonly to: number | undefined;
}

/** Tasks for so many jobs: 1, 2, 4 and so on up to the most, each when there are `jobsPerTask` for every one of the step before. */
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
