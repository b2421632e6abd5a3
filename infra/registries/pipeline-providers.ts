import { Stack } from 'aws-cdk-lib';
import { CfnOIDCProvider, FederatedPrincipal, type PrincipalBase } from 'aws-cdk-lib/aws-iam';
import type { Construct } from 'constructs';
import type { InfraSettings } from '../settings/schema.ts';

type Pipelines = NonNullable<InfraSettings['registries']>['roles']['pushFrom'];

/**
 * Principals for pipelines outside AWS that have tokens instead of keys, such as those of GitHub and GitLab. Adds the provider of each issuer,
 * unless the account has it already. https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_create_oidc.html
 */
export function pipelinePrincipals(scope: Construct, pipelines: Pipelines): readonly PrincipalBase[] {
  for (const issuer of new Set(pipelines.filter(({ existing }) => !existing).map((one) => one.issuer))) {
    const audiences = pipelines.filter((one) => one.issuer === issuer).map(({ audience }) => audience);
    new CfnOIDCProvider(scope, `Provider-${issuer}`, {
      url: `https://${issuer}`,
      clientIdList: [...new Set(audiences)],
    });
  }
  return pipelines.map(({ audience, issuer, subjects }) => {
    // by name and not by an attribute of the provider: the keys of a condition have to be known in advance
    const provider = Stack.of(scope).formatArn({
      service: 'iam',
      region: '',
      resource: 'oidc-provider',
      resourceName: issuer,
    });
    const conditions = {
      StringEquals: { [`${issuer}:aud`]: audience },
      StringLike: { [`${issuer}:sub`]: [...subjects] },
    };
    return new FederatedPrincipal(provider, conditions, 'sts:AssumeRoleWithWebIdentity');
  });
}
