import { CfnOutput, type Stack } from 'aws-cdk-lib';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import type { InfraSettings } from '../settings/schema.ts';

export interface OutputsProps {
  /** The environment variables that name the queues and the table. */
  readonly environment: Readonly<Record<string, string>>;
  readonly bucket: IBucket;
  /** The capacity of tasks, in the form that `transship scale --capacity` takes. */
  readonly capacity: string;
  /** That of large workers. Undefined: there are no large workers. */
  readonly largeCapacity: string | undefined;
  /** The repositories that the commands can use as examples. */
  readonly access: InfraSettings['access'];
  readonly workerLogs: ILogGroup;
  /** Undefined: there are no large workers. */
  readonly largeWorkerLogs: ILogGroup | undefined;
  readonly plannerLogs: ILogGroup;
  /** Undefined: there is no Cleaner. */
  readonly cleanerLogs: ILogGroup | undefined;
}

/** Adds the commands that check a deployment, ready to type, in their order. The reader fills in REPOSITORY and TAG. */
export function addOutputs(
  stack: Stack,
  { access, bucket, capacity, environment, largeCapacity, ...logs }: OutputsProps,
): void {
  const { account, region, urlSuffix } = stack;
  const host = `${account}.dkr.ecr.${region}.${urlSuffix}`;
  const registry = `docker://${host}`;
  const { source, target } = repositoriesOf(access, account, region);
  const archive = `s3://${bucket.bucketName}/${region}/${source}/TAG.tar`;
  // TRANSSHIP_BUCKET and ECR are for people who type commands: each job names where it writes
  const known = { AWS_REGION: region, ECR: host, ...environment, TRANSSHIP_BUCKET: bucket.bucketName };
  const variables = Object.entries(known).map(([name, value]) => `${name}=${value}`);
  const commands: readonly (readonly [id: string, what: string, command: string])[] = [
    ['Check1Environment', 'Sets the variables that the other commands need', `export ${variables.join(' ')}`],
    [
      'Check2Status',
      'Shows whether the queues and the table answer, and the state of the rules',
      'npx transship status',
    ],
    [
      'Check3FirstBackup',
      'Makes the first backup, by a worker that starts for it in one to two minutes',
      `npx transship enqueue --wait ${registry}/${source}:TAG s3://${bucket.bucketName}/`,
    ],
    ['Check4Verify', 'Verifies every byte of the backup', `npx transship verify ${archive}`],
    target === undefined
      ? [
          'Check5Restore',
          'Restores it to a file, because the settings let workers write to no repository',
          `npx transship copy ${archive} oci-archive:restored.tar`,
        ]
      : [
          'Check5Restore',
          'Restores it next to the original',
          `npx transship enqueue --wait ${archive} ${registry}/${target}:TAG`,
        ],
    [
      'Check6Replication',
      'Shows where ECR has replicated an image to',
      `aws ecr describe-image-replication-status --region ${region} --repository-name ${source} --image-id imageTag=TAG`,
    ],
    [
      'StartNow',
      'In a disaster: starts tasks on demand now, since Spot capacity may be short; replace 4 by the number you need',
      'npx transship scale 4 --on-demand',
    ],
    [
      'NormalCapacity',
      'After a disaster: returns to the deployed capacity',
      `npx transship scale --capacity ${capacity}`,
    ],
    ...ofLargeWorkers(largeCapacity, logs.largeWorkerLogs, region),
    ['LogsOfWorkers', 'Shows the logs of the workers', logsCommand(logs.workerLogs, region)],
    ['LogsOfPlanner', 'Shows the logs of the planner', logsCommand(logs.plannerLogs, region)],
    ...ofCleaner(logs.cleanerLogs, region),
  ];

  for (const [id, description, value] of commands) new CfnOutput(stack, id, { description, value });
}

function ofLargeWorkers(
  capacity: string | undefined,
  logs: ILogGroup | undefined,
  region: string,
): readonly (readonly [string, string, string])[] {
  if (capacity === undefined || logs === undefined) return [];
  return [
    ['StartLargeNow', 'In a disaster: starts large workers now', 'npx transship scale 2 --large'],
    [
      'NormalLargeCapacity',
      'After a disaster: returns the large workers to the deployed capacity',
      `npx transship scale --large --capacity ${capacity}`,
    ],
    ['LogsOfLargeWorkers', 'Shows the logs of the large workers', logsCommand(logs, region)],
  ];
}

function ofCleaner(logs: ILogGroup | undefined, region: string): readonly (readonly [string, string, string])[] {
  return logs === undefined
    ? []
    : [['LogsOfCleaner', 'Shows the logs of the Cleaner, with what it deleted', logsCommand(logs, region)]];
}

/** An example of a repository that may be read, and of one that may be written without touching the first. */
function repositoriesOf(
  { repositories }: InfraSettings['access'],
  account: string,
  region: string,
): { readonly source: string; readonly target: string | undefined } {
  const own = repositories.filter(
    (some) => (some.account ?? account) === account && (some.region ?? region) === region,
  );
  const [readable] = own.toSorted((a, b) => Number(a.allow === 'write') - Number(b.allow === 'write'));
  const source = readable?.names[0]?.replace(/\*+/g, 'REPOSITORY') ?? 'REPOSITORY';
  const pattern = own
    .flatMap(({ allow, names }) => (allow === 'write' ? names : []))
    .find((name) => name.includes('*'));
  const target = pattern === '*' ? `restored/${source}` : pattern?.replace(/\*+/, source).replaceAll('*', '');
  return { source, target };
}

function logsCommand({ logGroupName }: ILogGroup, region: string): string {
  return `aws logs tail --follow --region ${region} ${logGroupName}`;
}
