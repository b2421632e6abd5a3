import { CfnOutput, type Stack } from 'aws-cdk-lib';
import { replicaRegions } from './creation-templates.ts';
import { lifecyclePolicyText, retentionOf } from './lifecycle-policy.ts';
import { groupDestinations } from './replication-rules.ts';
import type { InfraSettings } from '../settings/schema.ts';

type RegistrySettings = NonNullable<InfraSettings['registries']>;

/** A template has 200 outputs: of more repositories the command that lists them has the URIs. */
const MAX_URIS = 100;

/** What pipelines need to know of the repositories, and the commands that check them. */
export function addRegistryOutputs(stack: Stack, registries: RegistrySettings): void {
  const { region } = stack;
  const output = (id: string, description: string, value: string): void => {
    new CfnOutput(stack, id, { description, value });
  };
  const { replication, repositories } = registries;
  const host = `${stack.account}.dkr.ecr.${region}.${stack.urlSuffix}`;
  output(
    'Login',
    'Signs docker in to the registry',
    `aws ecr get-login-password --region ${region} | docker login --username AWS --password-stdin ${host}`,
  );
  if (repositories.length <= MAX_URIS)
    for (const [id, name] of outputNames(repositories.map((one) => one.name)))
      output(id, `The URI of ${name}`, `${host}/${name}`);
  if (repositories.length > 0)
    output(
      'CheckRepositories',
      'Are repositories as the settings have them? Their URIs, whether tags are immutable, whether a push is scanned',
      describeCommand(region),
    );
  const expiring = repositories.find((one) => lifecyclePolicyText(retentionOf(one)) !== undefined)?.name;
  if (expiring !== undefined) {
    const ofIt = `--repository-name ${expiring} --region ${region}`;
    output(
      'PreviewLifecycle',
      'What the lifecycle policy of a repository lets go next',
      `aws ecr start-lifecycle-policy-preview ${ofIt} && aws ecr wait lifecycle-policy-preview-complete ${ofIt} && aws ecr get-lifecycle-policy-preview ${ofIt}`,
    );
  }
  if (replication.length === 0) return;
  output(
    'CheckReplication',
    'Has an image arrived everywhere? Pushed after this deploy: what was there before is not replicated by itself',
    `aws ecr describe-image-replication-status --repository-name ${repositories[0]?.name ?? 'REPOSITORY'} --image-id imageTag=TAG --region ${region}`,
  );
  for (const replica of replicaRegions(registries, stack.account))
    output(
      `CheckReplicas${pascal(replica)}`,
      `Repositories that replication made in ${replica}, and how`,
      describeCommand(replica),
    );
  const [to] = groupDestinations(replication, stack.account).flatMap(({ destinations }) => destinations);
  output(
    'ReplicateExisting',
    'Replicates what was there before, to one destination; ask once for each. Needs an AWS CLI of November 2026 or later',
    `aws ecr start-replication-backfill --destination region=${to?.region},registryId=${to?.account} --region ${region}`,
  );
  output('ShowReplication', 'What is replicated where', `aws ecr describe-registry --region ${region}`);
}

function describeCommand(region: string): string {
  const columns = '[repositoryUri,imageTagMutability,imageScanningConfiguration.scanOnPush]';
  return `aws ecr describe-repositories --region ${region} --query 'repositories[].${columns}' --output table`;
}

/** Ids of outputs, by repository: `ProductApiUri`. Two names that make the same one are numbered. */
function outputNames(names: readonly string[]): ReadonlyMap<string, string> {
  const ids = new Map<string, string>();
  for (const name of names) {
    const id = `${pascal(name)}Uri`;
    let free = id;
    for (let number = 2; ids.has(free); number++) free = `${id}${number}`;
    ids.set(free, name);
  }
  return ids;
}

function pascal(name: string): string {
  return name.replace(/(?:^|[^a-z0-9]+)([a-z0-9])/g, (_, first: string) => first.toUpperCase());
}
