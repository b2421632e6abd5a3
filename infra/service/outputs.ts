import { CfnOutput, type Stack } from 'aws-cdk-lib';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import type { InfraSettings } from '../settings/schema.ts';

export interface OutputsProps {
  /** Where the queues and the table are, by variable. */
  readonly environment: Readonly<Record<string, string>>;
  readonly bucket: IBucket;
  /** Where tasks run, as `transship scale --capacity` takes it. */
  readonly capacity: string;
  /** What the commands may be about. */
  readonly access: InfraSettings['access'];
  readonly workerLogs: ILogGroup;
  readonly plannerLogs: ILogGroup;
  /** Undefined: there is no Cleaner. */
  readonly cleanerLogs: ILogGroup | undefined;
}

/** After a deployment: the commands that check it, as they are to be typed, in their order. REPOSITORY and TAG are to be filled in. */
export function addOutputs(stack: Stack, { access, bucket, capacity, environment, ...logs }: OutputsProps): void {
  const { account, region, urlSuffix } = stack;
  const host = `${account}.dkr.ecr.${region}.${urlSuffix}`;
  const registry = `docker://${host}`;
  const { source, target } = repositoriesOf(access, account, region);
  const archive = `s3://${bucket.bucketName}/${region}/${source}/TAG.tar`;
  // bucket and registry are for people: each job says where it writes
  const known = { AWS_REGION: region, ECR: host, ...environment, TRANSSHIP_BUCKET: bucket.bucketName };
  const variables = Object.entries(known).map(([name, value]) => `${name}=${value}`);
  const commands: readonly (readonly [id: string, what: string, command: string])[] = [
    ['Check1Environment', 'What the other commands need to know', `export ${variables.join(' ')}`],
    ['Check2Status', 'Whether queues and table answer, and how rules do', 'npx transship status'],
    [
      'Check3FirstBackup',
      'The first backup, by a worker that starts for it, which takes one to two minutes',
      `npx transship enqueue --wait ${registry}/${source}:TAG s3://${bucket.bucketName}/`,
    ],
    ['Check4Verify', 'Whether every byte of it is right', `npx transship verify ${archive}`],
    target === undefined
      ? [
          'Check5Restore',
          'It comes back as a file: the settings let workers write to no repository',
          `npx transship copy ${archive} oci-archive:restored.tar`,
        ]
      : [
          'Check5Restore',
          'It comes back, beside the original',
          `npx transship enqueue --wait ${archive} ${registry}/${target}:TAG`,
        ],
    [
      'Check6Replication',
      'Where ECR has replicated an image to',
      `aws ecr describe-image-replication-status --region ${region} --repository-name ${source} --image-id imageTag=TAG`,
    ],
    [
      'StartNow',
      'In a disaster: tasks on demand at once, where Spot capacity may be short; put in how many',
      'npx transship scale 4 --on-demand',
    ],
    ['NormalCapacity', 'Afterwards: tasks as they were deployed', `npx transship scale --capacity ${capacity}`],
    ['LogsOfWorkers', 'Logs of the workers', logsCommand(logs.workerLogs, region)],
    ['LogsOfPlanner', 'Logs of the planner', logsCommand(logs.plannerLogs, region)],
    ...ofCleaner(logs.cleanerLogs, region),
  ];

  for (const [id, description, value] of commands) new CfnOutput(stack, id, { description, value });
}

function ofCleaner(logs: ILogGroup | undefined, region: string): readonly (readonly [string, string, string])[] {
  return logs === undefined
    ? []
    : [['LogsOfCleaner', 'Logs of the Cleaner, with what it deleted', logsCommand(logs, region)]];
}

/** Examples of what may be read, and of what may be written without touching it. */
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
