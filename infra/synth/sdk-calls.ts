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
  /** The name of the service in the SDK and in IAM, such as `ecr`. */
  readonly service: string;
  /** The resource of the calls: the function may call them on it and on nothing else. */
  readonly resource: string;
  /** A changed id is another resource: CloudFormation removes the old one. */
  readonly physicalId: string;
  /** Called when the resource is created, and whenever the parameters change. */
  readonly set: SdkCall;
  /** Called when the resource is deleted. @default what was set stays */
  readonly remove?: SdkCall;
  /** The parts of the response that are kept. @default all, which may be 4 KiB at most */
  readonly outputPaths?: readonly string[];
  /** The log group of the function. All calls of a stack share one function, which keeps the log group of the first. */
  readonly logGroup: ILogGroup;
}

/** The id of the function in each stack with such calls. CDK makes it from a fixed UUID. */
const FUNCTION_ID = 'AWS679f53fac002430cb0da5b7982bd2287';

/** Adds a resource that CloudFormation does not offer, by calls of the SDK during a deploy. All of a stack share one function. */
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
    // the SDK in Lambda is enough; otherwise the function would install one from npm during a deploy
    installLatestAwsSdk: false,
  });
  const provider = Stack.of(scope).node.tryFindChild(FUNCTION_ID);
  if (provider === undefined) throw new Error('the function of custom resources does not have the expected id');
  Validations.of(provider).acknowledge({
    id: 'AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole]',
    reason: 'The function is part of CDK. The policy lets it write its log; its calls are granted by resource.',
  });
}
