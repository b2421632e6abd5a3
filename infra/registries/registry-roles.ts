import { CfnOutput, Duration, Stack } from 'aws-cdk-lib';
import type { IRepository } from 'aws-cdk-lib/aws-ecr';
import { ArnPrincipal, CompositePrincipal, Role, type PrincipalBase } from 'aws-cdk-lib/aws-iam';
import { Construct } from 'constructs';
import { pipelinePrincipals } from './pipeline-providers.ts';
import type { RepositorySettings } from './lifecycle-policy.ts';
import type { InfraSettings } from '../settings/schema.ts';
import { acknowledgeWildcard } from '../synth/wildcards.ts';

export interface RegistryRolesProps {
  readonly repositories: readonly { readonly settings: RepositorySettings; readonly repository: IRepository }[];
  /** Who may assume each: nobody, and there is no such role. */
  readonly roles: NonNullable<InfraSettings['registries']>['roles'];
}

/** Roles for who uses the repositories: production, CI, and what cleans up after it. */
export class RegistryRoles extends Construct {
  readonly #sessionHours: number;

  constructor(scope: Construct, id: string, { repositories, roles }: RegistryRolesProps) {
    super(scope, id);
    this.#sessionHours = roles.sessionHours;
    const testing = repositories.filter(({ settings }) => settings.shape === 'testing');
    const production = repositories.filter(({ settings }) => settings.shape !== 'testing');

    const pull = this.#addRole('Pull', 'Pulls images in production', arns(roles.pull), roles.names.pull);
    if (pull !== undefined) for (const { repository } of production) repository.grantPull(pull);

    const pipelines = [...arns(roles.push), ...pipelinePrincipals(this, roles.pushFrom)];
    const push = this.#addRole('Push', 'Pushes images from CI', pipelines, roles.names.push);
    if (push !== undefined) for (const { repository } of repositories) repository.grantPullPush(push);

    const cleanUp = this.#addRole('CleanUp', 'Deletes images of testing', arns(roles.cleanUp), roles.names.cleanUp);
    if (cleanUp !== undefined)
      for (const { repository } of testing)
        repository.grant(cleanUp, 'ecr:BatchDeleteImage', 'ecr:DescribeImages', 'ecr:ListImages');

    for (const role of [pull, push])
      if (role !== undefined)
        // https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html
        acknowledgeWildcard(role, '*', 'ecr:GetAuthorizationToken takes no resource; all else is by repository.');
  }

  #addRole(
    id: string,
    description: string,
    [first, ...others]: readonly PrincipalBase[],
    roleName: string | undefined,
  ): Role | undefined {
    if (first === undefined) return undefined;
    const role = new Role(this, id, {
      assumedBy: new CompositePrincipal(first, ...others),
      description,
      ...(roleName === undefined ? {} : { roleName }),
      ...(this.#sessionHours === 1 ? {} : { maxSessionDuration: Duration.hours(this.#sessionHours) }),
    });
    // by this name, without that of a construct and a hash
    new CfnOutput(Stack.of(this), `${id}RoleArn`, { description, value: role.roleArn });
    return role;
  }
}

function arns(principals: readonly string[]): readonly ArnPrincipal[] {
  return principals.map((arn) => new ArnPrincipal(arn));
}
