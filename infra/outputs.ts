import { CfnOutput, type Stack } from 'aws-cdk-lib';
import type { IBucket } from 'aws-cdk-lib/aws-s3';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';

export interface OutputsProps {
  /** Where the queues and the table are, by variable. */
  readonly environment: Readonly<Record<string, string>>;
  readonly bucket: IBucket;
  readonly workerLogs: ILogGroup;
  readonly plannerLogs: ILogGroup;
}

/** After a deployment: the commands that check it, as they are to be typed, in their order. REPOSITORY:TAG is the only thing to fill in. */
export function addOutputs(stack: Stack, { bucket, environment, plannerLogs, workerLogs }: OutputsProps): void {
  const { account, region, urlSuffix } = stack;
  const registry = `docker://${account}.dkr.ecr.${region}.${urlSuffix}`;
  const archive = `s3://${bucket.bucketName}/${region}/REPOSITORY/TAG.tar`;
  const variables = Object.entries({ AWS_REGION: region, ...environment }).map(([name, value]) => `${name}=${value}`);
  const commands: readonly (readonly [id: string, what: string, command: string])[] = [
    ['Check1Environment', 'What the other commands need to know', `export ${variables.join(' ')}`],
    ['Check2Status', 'Whether queues and table answer, and how rules do', 'npx transship status'],
    [
      'Check3FirstBackup',
      'The first backup, by a worker; the first one needs a minute to start',
      `npx transship enqueue --wait ${registry}/REPOSITORY:TAG s3://${bucket.bucketName}/`,
    ],
    ['Check4Verify', 'Whether every byte of it is right', `npx transship verify ${archive}`],
    [
      'Check5Restore',
      'It comes back, beside the original',
      `npx transship enqueue --wait ${archive} ${registry}/restored/REPOSITORY:TAG`,
    ],
    [
      'Check6Replication',
      'Where ECR has replicated an image to',
      `aws ecr describe-image-replication-status --region ${region} --repository-name REPOSITORY --image-id imageTag=TAG`,
    ],
    ['LogsOfWorkers', 'What workers tell', logsCommand(workerLogs, region)],
    ['LogsOfPlanner', 'What the planner tells', logsCommand(plannerLogs, region)],
  ];
  for (const [id, description, value] of commands) new CfnOutput(stack, id, { description, value });
}

function logsCommand({ logGroupName }: ILogGroup, region: string): string {
  return `aws logs tail --follow --region ${region} ${logGroupName}`;
}
