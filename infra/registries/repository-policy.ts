import type { Stack } from 'aws-cdk-lib';
import { AccountPrincipal, AnyPrincipal, Effect, PolicyStatement, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import type { RepositorySettings } from './lifecycle-policy.ts';

const PULL = ['ecr:BatchCheckLayerAvailability', 'ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer'];
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html
const PUSH = ['ecr:CompleteLayerUpload', 'ecr:InitiateLayerUpload', 'ecr:PutImage', 'ecr:UploadLayerPart'];
const DELETE = ['ecr:BatchDeleteImage', 'ecr:DeleteRepository'];

/** What the policy of a repository lets principals of other accounts do. Empty: it has no policy. */
export function repositoryPolicy(
  { partition }: Stack,
  { deleteOnly, lambdaAccounts, pullAccounts, pullOrganization, pushAccounts, pushOnly }: RepositorySettings,
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
    ...denied('PushOnly', PUSH, pushOnly),
    ...denied('DeleteOnly', DELETE, deleteOnly),
  ];
}

/** Sessions of a role count as the role: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html */
function denied(sid: string, actions: string[], except: readonly string[]): readonly PolicyStatement[] {
  if (except.length === 0) return [];
  return [
    new PolicyStatement({
      effect: Effect.DENY,
      sid,
      principals: [new AnyPrincipal()],
      actions,
      conditions: { ArnNotLike: { 'aws:PrincipalArn': [...except] } },
    }),
  ];
}

type Admitted = Pick<
  RepositorySettings,
  'deleteOnly' | 'lambdaAccounts' | 'pullAccounts' | 'pullOrganization' | 'pushAccounts' | 'pushOnly'
>;

/** Whether a repository has a policy. */
export function hasPolicy({ pullOrganization, ...lists }: Admitted): boolean {
  const { deleteOnly, lambdaAccounts, pullAccounts, pushAccounts, pushOnly } = lists;
  const all = [deleteOnly, lambdaAccounts, pullAccounts, pushAccounts, pushOnly];
  return pullOrganization !== undefined || all.some((list) => list.length > 0);
}
