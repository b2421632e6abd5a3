import { Stack } from 'aws-cdk-lib';
import { Repository, type IRepository } from 'aws-cdk-lib/aws-ecr';
import type { PolicyDocument } from 'aws-cdk-lib/aws-iam';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';
import { sdkCalls } from '../synth/sdk-calls.ts';

export interface AdoptedRepositoryProps {
  readonly name: string;
  /** @default the lifecycle policy that it has, or none */
  readonly lifecyclePolicyText?: string | undefined;
  /** @default the policy that it has, or none */
  readonly policy?: PolicyDocument | undefined;
  /** Of the function that makes the calls. */
  readonly logGroup: ILogGroup;
}

/**
 * A repository that CloudFormation did not create and does not own: its policies are set by calls to ECR, and taken off when they are no longer
 * given or the stack is deleted. What else it has stays as it is. docs/decisions/0005-repositories-that-exist.md says why.
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
      // all of the answer may be more than CloudFormation takes
      outputPaths: ['repositoryName'],
      logGroup: this.#logGroup,
    });
  }
}

interface PolicyCalls {
  readonly put: string;
  readonly parameters: Readonly<Record<string, string>>;
  readonly remove: string;
  /** What ECR says when there is nothing to remove. */
  readonly gone: string;
}
