import { Stack } from 'aws-cdk-lib';
import { Repository, type IRepository } from 'aws-cdk-lib/aws-ecr';
import type { PolicyDocument } from 'aws-cdk-lib/aws-iam';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';
import { sdkCalls } from '../synth/sdk-calls.ts';

export interface AdoptedRepositoryProps {
  readonly name: string;
  /** @default the lifecycle policy stays as it is */
  readonly lifecyclePolicyText?: string | undefined;
  /** @default the policy stays as it is */
  readonly policy?: PolicyDocument | undefined;
  /** The log group of the function that makes the calls. */
  readonly logGroup: ILogGroup;
}

/**
 * A repository that CloudFormation did not create and does not own. Calls to ECR set its policies, and remove them when they are no longer given
 * or the stack is deleted. Its other settings stay as they are. docs/decisions/0005-repositories-that-exist.md has the reason.
 */
export class AdoptedRepository extends Construct {
  readonly repository: IRepository;
  readonly #logGroup: ILogGroup;

  constructor(scope: Construct, id: string, { name, lifecyclePolicyText, policy, logGroup }: AdoptedRepositoryProps) {
    super(scope, id);
    this.#logGroup = logGroup;
    this.repository = Repository.fromRepositoryName(this, 'Repository', name);
    if (lifecyclePolicyText !== undefined)
      this.#set('Lifecycle', {
        put: 'PutLifecyclePolicy',
        parameters: { lifecyclePolicyText },
        remove: 'DeleteLifecyclePolicy',
        gone: 'LifecyclePolicyNotFoundException',
      });
    if (policy !== undefined)
      this.#set('Policy', {
        put: 'SetRepositoryPolicy',
        parameters: { policyText: Stack.of(this).toJsonString(policy) },
        remove: 'DeleteRepositoryPolicy',
        gone: 'RepositoryPolicyNotFoundException',
      });
  }

  #set(id: string, { put, parameters, remove, gone }: PolicyCalls): void {
    const { repositoryName, repositoryArn } = this.repository;
    sdkCalls(this, id, {
      service: 'ecr',
      resource: repositoryArn,
      physicalId: `${repositoryName} ${put}`,
      set: { action: put, parameters: { repositoryName, ...parameters } },
      remove: {
        action: remove,
        parameters: { repositoryName },
        ignoreErrorCodesMatching: `^(?:${gone}|RepositoryNotFoundException)$`,
      },
      // the whole response may be larger than CloudFormation accepts
      outputPaths: ['repositoryName'],
      logGroup: this.#logGroup,
    });
  }
}

interface PolicyCalls {
  readonly put: string;
  readonly parameters: Readonly<Record<string, string>>;
  readonly remove: string;
  /** The error code of ECR when there is nothing to remove. */
  readonly gone: string;
}
