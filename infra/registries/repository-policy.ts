import type { Stack } from 'aws-cdk-lib';
import { AccountPrincipal, AnyPrincipal, PolicyStatement, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { RepositorySettings } from './lifecycle-policy.ts';

const PULL = ['ecr:BatchCheckLayerAvailability', 'ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer'];
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html
const PUSH = ['ecr:CompleteLayerUpload', 'ecr:InitiateLayerUpload', 'ecr:PutImage', 'ecr:UploadLayerPart'];

/** The statements of a repository's policy for principals of other accounts. Empty: it has no policy. */
export function repositoryPolicy(
  { partition }: Stack,
  { lambdaAccounts, pullAccounts, pullOrganization, pushAccounts }: RepositorySettings,
): readonly PolicyStatement[] {
  const accounts = (names: readonly string[]): AccountPrincipal[] => names.map((name) => new AccountPrincipal(name));
  return [
    ...(pullAccounts.length === 0
      ? []
      : [new PolicyStatement({ sid: 'PullFromOtherAccounts', principals: accounts(pullAccounts), actions: PULL })]),
    ...(pushAccounts.length === 0
      ? []
      : [
          new PolicyStatement({
            sid: 'PushFromOtherAccounts',
            principals: accounts(pushAccounts),
            actions: [...PULL, ...PUSH],
          }),
        ]),
    ...(pullOrganization === undefined
      ? []
      : [
          new PolicyStatement({
            sid: 'PullFromOrganization',
            principals: [new AnyPrincipal()],
            actions: PULL,
            conditions: { StringEquals: { 'aws:PrincipalOrgID': pullOrganization } },
          }),
        ]),
    ...(lambdaAccounts.length === 0
      ? []
      : [
          // https://docs.aws.amazon.com/lambda/latest/dg/images-create.html#gettingstarted-images-permissions
          new PolicyStatement({
            sid: 'LambdaOfOtherAccounts',
            principals: [new ServicePrincipal('lambda.amazonaws.com')],
            actions: ['ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer'],
            conditions: {
              ArnLike: {
                'aws:SourceArn': lambdaAccounts.map((account) => `arn:${partition}:lambda:*:${account}:function:*`),
              },
            },
          }),
          new PolicyStatement({
            sid: 'AccountsOfLambda',
            principals: accounts(lambdaAccounts),
            actions: ['ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer'],
          }),
        ]),
  ];
}

/** Whether a repository has a policy. */
export function hasPolicy({
  lambdaAccounts,
  pullAccounts,
  pullOrganization,
  pushAccounts,
}: Pick<RepositorySettings, 'lambdaAccounts' | 'pullAccounts' | 'pullOrganization' | 'pushAccounts'>): boolean {
  return lambdaAccounts.length + pullAccounts.length + pushAccounts.length > 0 || pullOrganization !== undefined;
}
