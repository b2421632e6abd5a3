import { Stack, Validations } from 'aws-cdk-lib';
import { PolicyStatement } from 'aws-cdk-lib/aws-iam';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import { AwsCustomResource, AwsCustomResourcePolicy, PhysicalResourceId } from 'aws-cdk-lib/custom-resources';
import type { Construct } from 'constructs';

interface SdkCall {
  readonly action: string;
  readonly parameters: Readonly<Record<string, string>>;
  /** @default every error fails the deploy */
  readonly ignoreErrorCodesMatching?: string;
}

export interface SdkCallsProps {
  /** As the SDK has it, and IAM: `ecr`. */
  readonly service: string;
  /** What the calls are on: the function may do them there and nowhere else. */
  readonly resource: string;
  /** Another one is another resource: the old one is removed. */
  readonly physicalId: string;
  /** When it is created and whenever its parameters change. */
  readonly set: SdkCall;
  /** When it is deleted. @default it stays as it was set */
  readonly remove?: SdkCall;
  /** Of the answer. @default all: 4 KiB at most */
  readonly outputPaths?: readonly string[];
  /** Of the function: the one of the first calls in a stack. */
  readonly logGroup: ILogGroup;
}

/** What the id of the function is in each stack that has such calls: CDK gives it by a UUID of its own. */
const FUNCTION_ID = 'AWS679f53fac002430cb0da5b7982bd2287';

/** A resource that CloudFormation does not have, by calls of the SDK while it deploys. They share one function in a stack. */
export function sdkCalls(scope: Construct, id: string, props: SdkCallsProps): void {
  const { service, resource, physicalId, set, remove, outputPaths, logGroup } = props;
  const physicalResourceId = PhysicalResourceId.of(physicalId);
  const paths = outputPaths === undefined ? {} : { outputPaths: [...outputPaths] };
  const call = { service, ...set, ...paths, physicalResourceId };
  const actions = [set, ...(remove === undefined ? [] : [remove])].map(({ action }) => `${service}:${action}`);
  new AwsCustomResource(scope, id, {
    resourceType: `Custom::${set.action}`,
    onCreate: call,
    onUpdate: call,
    ...(remove === undefined ? {} : { onDelete: { service, ...remove } }),
    policy: AwsCustomResourcePolicy.fromStatements([new PolicyStatement({ actions, resources: [resource] })]),
    logGroup,
    // the SDK that Lambda has will do; another would be fetched from npm when a stack is deployed
    installLatestAwsSdk: false,
  });
  const provider = Stack.of(scope).node.tryFindChild(FUNCTION_ID);
  if (provider === undefined) throw new Error('the function of custom resources has another id than it had');
  Validations.of(provider).acknowledge({
    id: 'AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole]',
    reason: 'The function is of CDK; the policy lets it write its log, and what it may call is by resource.',
  });
}
