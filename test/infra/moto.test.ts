// Deploys the portable templates into moto, a CloudFormation of another project, as far as it goes: https://github.com/getmoto/moto
import { spawnSync } from 'node:child_process';
import { afterAll, describe, expect, test } from 'vitest';
import { startMoto } from '../support/interop-moto.ts';
import { PORTABLE, portableTemplates } from './templates.ts';

const HAS_MOTO = spawnSync('moto_server', ['--help']).status === 0;
// the Region in which a bucket needs no location
const REGION = 'us-east-1';

/**
 * Values that moto can deploy: it does not support Fn::Cidr, which divides a VPC that is created, nor references between alarms, which the
 * dashboard has, nor statements that a condition leaves out.
 */
const GIVEN: Readonly<Record<(typeof PORTABLE)[number], Readonly<Record<string, string>>>> = {
  Transship: {
    AssetBucket: 'assets-bucket',
    WorkerImage: '222222222222.dkr.ecr.eu-west-1.amazonaws.com/transship/worker:1',
    WorkerImageRepositoryArn: 'arn:aws:ecr:eu-west-1:222222222222:repository/transship/worker',
    EnableMonitoring: 'false',
    VpcId: 'vpc-00000000',
    SubnetIds: 'subnet-00000000',
    PublishBucket: 'objects',
    PublishRepository: 'documents',
  },
  TransshipRegistries: { DestinationRegion: 'us-west-2', SecondaryRegion: 'eu-west-1' },
  TransshipReplicas: { HomeRegion: 'eu-west-1' },
};

describe.skipIf(!HAS_MOTO)('moto', async () => {
  const moto = HAS_MOTO ? await startMoto({ PATH: process.env['PATH'] ?? '' }) : undefined;
  afterAll(() => moto?.[Symbol.asyncDispose]());

  async function ask(
    service: string,
    path: string,
    method: string,
    body: string | URLSearchParams = '',
  ): Promise<string> {
    const authorization = `AWS4-HMAC-SHA256 Credential=a/20260101/${REGION}/${service}/aws4_request, SignedHeaders=host, Signature=0`;
    const response = await fetch(`${moto?.endpoint}${path}`, { method, body, headers: { authorization } });
    const text = await response.text();
    expect(response.status, text).toBeLessThan(300);
    return text;
  }

  function call(action: string, more: Readonly<Record<string, string>>): Promise<string> {
    return ask('cloudformation', '/', 'POST', new URLSearchParams({ Action: action, Version: '2010-05-15', ...more }));
  }

  test.each(PORTABLE)('creates %s', async (id) => {
    const template = portableTemplates().get(id);
    if (template === undefined) throw new Error(`there is no template ${id}`);
    const resources = Object.values(template.Resources);
    for (const resource of resources) {
      const properties = Object(resource.Properties);
      // moto supports the older kinds of these resources
      if (resource.Type === 'AWS::DynamoDB::GlobalTable') {
        const { AttributeDefinitions, BillingMode, KeySchema } = properties;
        Object.assign(resource, {
          Type: 'AWS::DynamoDB::Table',
          Properties: { AttributeDefinitions, BillingMode, KeySchema },
        });
      }
      if (resource.Type === 'AWS::Lambda::Function') properties.Runtime = 'nodejs22.x';
    }
    const text = JSON.stringify(template);
    const keys = new Set(text.match(/[0-9a-f]{64}\.zip/g));
    if (keys.size > 0) await ask('s3', '/assets-bucket', 'PUT');
    for (const key of keys) await ask('s3', `/assets-bucket/${key}`, 'PUT', 'code');

    const parameters = Object.entries(GIVEN[id]).flatMap(([name, value], i) => [
      [`Parameters.member.${i + 1}.ParameterKey`, name],
      [`Parameters.member.${i + 1}.ParameterValue`, value],
    ]);
    const rest = { 'Capabilities.member.1': 'CAPABILITY_NAMED_IAM', ...Object.fromEntries(parameters) };
    await call('CreateStack', { StackName: id, TemplateBody: text, ...rest });
    const described = await call('DescribeStacks', { StackName: id });
    expect(described).toContain('<StackStatus>CREATE_COMPLETE</StackStatus>');
    const made = new Set((await call('DescribeStackResources', { StackName: id })).match(/AWS::\w+::\w+/g));
    const IMPORTANT = {
      Transship: [
        'AWS::ECS::Service',
        'AWS::ECS::TaskDefinition',
        'AWS::Lambda::Function',
        'AWS::S3::Bucket',
        'AWS::SQS::Queue',
      ],
      TransshipRegistries: ['AWS::ECR::Repository'],
      TransshipReplicas: ['AWS::Events::Rule'],
    };
    for (const type of IMPORTANT[id]) expect(made).toContain(type);
  });

  test('deploys a StackSet of a template to several Regions', { timeout: 180_000 }, async () => {
    const name = 'replicas-everywhere';
    await call('CreateStackSet', {
      StackSetName: name,
      TemplateBody: JSON.stringify(portableTemplates().get('TransshipReplicas')),
      'Parameters.member.1.ParameterKey': 'HomeRegion',
      'Parameters.member.1.ParameterValue': 'eu-west-1',
      'Capabilities.member.1': 'CAPABILITY_NAMED_IAM',
    });
    const regions = ['us-east-2', 'ap-south-1'];
    await call('CreateStackInstances', {
      StackSetName: name,
      'Accounts.member.1': '123456789012',
      ...Object.fromEntries(regions.map((region, i) => [`Regions.member.${i + 1}`, region])),
    });
    const instances = await call('ListStackInstances', { StackSetName: name });
    for (const region of regions) expect(instances).toContain(`<Region>${region}</Region>`);
    expect(instances.match(/<Status>\w+<\/Status>/g)).toEqual(regions.map(() => '<Status>CURRENT</Status>'));
  });
});
