import { CfnOutput, type Stack } from 'aws-cdk-lib';
import { replicaRegions } from './creation-templates.ts';
import { lifecyclePolicyText, retentionOf } from './lifecycle-policy.ts';
import { groupDestinations } from './replication-rules.ts';
import type { InfraSettings } from '../settings/schema.ts';

type RegistrySettings = NonNullable<InfraSettings['registries']>;

/** A template has at most 200 outputs. With more repositories, the command that lists them shows the URIs. */
const MAX_URIS = 100;

/** Adds the URIs of the repositories, for pipelines, and the commands that check them. */
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
      'Lists the repositories, to compare with the settings: URIs, whether tags are immutable, whether a push is scanned',
      describeCommand(region),
    );
  const expiring = repositories.find((one) => lifecyclePolicyText(retentionOf(one)) !== undefined)?.name;
  if (expiring !== undefined) {
    const ofIt = `--repository-name ${expiring} --region ${region}`;
    output(
      'PreviewLifecycle',
      'Shows what the lifecycle policy of a repository deletes next',
      `aws ecr start-lifecycle-policy-preview ${ofIt} && aws ecr wait lifecycle-policy-preview-complete ${ofIt} && aws ecr get-lifecycle-policy-preview ${ofIt}`,
    );
  }
  if (replication.length === 0) return;
  output(
    'CheckReplication',
    'Shows where an image was replicated to. ECR replicates only images that are pushed after this deploy',
    `aws ecr describe-image-replication-status --repository-name ${repositories[0]?.name ?? 'REPOSITORY'} --image-id imageTag=TAG --region ${region}`,
  );
  for (const replica of replicaRegions(registries, stack.account))
    output(
      `CheckReplicas${pascal(replica)}`,
      `Lists the repositories that replication created in ${replica}, and their settings`,
      describeCommand(replica),
    );
  const [to] = groupDestinations(replication, stack.account).flatMap(({ destinations }) => destinations);
  output(
    'ReplicateExisting',
    'Replicates older images to one destination; run once for each. Needs an AWS CLI of November 2026 or later',
    `aws ecr start-replication-backfill --destination region=${to?.region},registryId=${to?.account} --region ${region}`,
  );
  output('ShowReplication', 'Shows what is replicated where', `aws ecr describe-registry --region ${region}`);
}

function describeCommand(region: string): string {
  const columns = '[repositoryUri,imageTagMutability,imageScanningConfiguration.scanOnPush]';
  return `aws ecr describe-repositories --region ${region} --query 'repositories[].${columns}' --output table`;
}

/** Ids of outputs, by repository: `ProductApiUri`. Names that result in the same id get a number. */
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
