// FIPS endpoints: which processes use them, which endpoints the network has for them, and what is refused.
import { Template } from 'aws-cdk-lib/assertions';
import { describe, expect, test } from 'vitest';
import { parseSettings, SettingsError } from '../../infra/settings/settings.ts';
import type { InfraSettings } from '../../infra/settings/schema.ts';
import { ACCOUNT, stacksOf, textOf } from './templates.ts';

function settingsIn(region: string, more = ''): InfraSettings {
  return parseSettings(`version: 1\naccount: '${ACCOUNT}'\nregion: ${region}\nfips: true\n${more}`, 'test.yaml');
}

function templateIn(region: string, more = ''): Template {
  const stack = stacksOf(settingsIn(region, more)).get('Transship');
  if (stack === undefined) throw new Error('no stack');
  return Template.fromStack(stack);
}

/** The services of the endpoints of the VPC, such as `ecr.api`. */
function endpointsOf(template: Template): readonly string[] {
  return Object.values(template.findResources('AWS::EC2::VPCEndpoint'))
    .map(({ Properties }) => textOf(Properties.ServiceName).split('.').slice(3).join('.'))
    .toSorted();
}

test('the planner, the Cleaner and workers of both sizes use the FIPS endpoints of AWS', () => {
  const template = templateIn('us-east-1', "prune: { repositories: [{ names: ['testing/*'] }] }\nlargeJobs: {}");
  for (const [type, count] of [
    ['AWS::Lambda::Function', 2],
    ['AWS::ECS::TaskDefinition', 2],
  ] as const) {
    const resources = Object.values(template.findResources(type)).map((one) => JSON.stringify(one));
    const using = resources.filter((text) =>
      /"AWS_USE_FIPS_ENDPOINT":"true"|\{"Name":"AWS_USE_FIPS_ENDPOINT","Value":"true"\}/.test(text),
    );
    expect([resources.length, using.length], type).toEqual([count, count]);
  }
});

describe('the network', () => {
  const ROLE = (partition: string): string => `access: { roles: ['arn:${partition}:iam::222222222222:role/a'] }`;

  test('has the FIPS endpoints that AWS PrivateLink has, and those that Fargate needs', () => {
    expect(endpointsOf(templateIn('us-west-2', ROLE('aws')))).toEqual([
      'dynamodb',
      'ecr.api',
      'ecr.dkr',
      'logs',
      's3',
      'sqs-fips',
      'sts-fips',
    ]);
  });

  test('has no endpoint of Secrets Manager, whose FIPS endpoint workers reach through NAT', () => {
    const secret = "access: { secrets: ['arn:aws:secretsmanager:us-west-2:111111111111:secret:hub-AbCdEf'] }";
    expect(endpointsOf(templateIn('us-west-2', secret))).not.toContain('secretsmanager');
  });

  test('has the ordinary endpoints of SQS and STS in GovCloud, where they are the FIPS ones', () => {
    const endpoints = endpointsOf(templateIn('us-gov-west-1', ROLE('aws-us-gov')));
    expect(endpoints.filter((one) => one.startsWith('s'))).toEqual(['s3', 'sqs', 'sts']);
  });
});

describe('fips is refused', () => {
  const REGIONS = 'us-east-1, us-east-2, us-west-1, us-west-2, us-gov-east-1, us-gov-west-1';
  const EXPECTED = `AWS is reached at FIPS endpoints only, with fips: true: expected one of the Regions ${REGIONS}`;
  const SECRET = 'arn:aws:secretsmanager:eu-west-1:111111111111:secret:hub-AbCdEf';

  test.each([
    [
      'eu-central-1',
      '',
      `fips true: Amazon ECR has no FIPS endpoints in eu-central-1: expected false, or one of the Regions ${REGIONS}`,
    ],
    [
      'us-east-1',
      'access: { repositories: [{ region: eu-west-1, names: [a1], allow: read }] }',
      `access.repositories.0.region "eu-west-1": ${EXPECTED}`,
    ],
    ['us-east-1', `access: { secrets: ['${SECRET}'] }`, `access.secrets.0 "${SECRET}": ${EXPECTED}`],
    [
      'us-east-1',
      'prune: { repositories: [{ region: eu-west-1, names: [a1] }] }',
      `prune.repositories.0.region "eu-west-1": ${EXPECTED}`,
    ],
    [
      'us-east-1',
      'network: { type: own, natGateways: 0 }',
      'network.natGateways 0: with fips: true, workers reach ECR through NAT, because AWS PrivateLink has no FIPS endpoints of ECR: expected 1 to 3',
    ],
  ])('in %s with %j', (region, more, message) => {
    let refusal = '';
    try {
      settingsIn(region, more);
    } catch (error) {
      if (!(error instanceof SettingsError)) throw error;
      refusal = error.message;
    }
    expect(refusal).toBe(`test.yaml: ${message}`);
  });

  test('nowhere else: other Regions with FIPS endpoints and a network without endpoints are accepted', () => {
    const more = 'access: { repositories: [{ region: us-west-1, names: [a1], allow: read }] }';
    expect(settingsIn('us-east-2', `${more}\nnetwork: { type: public }`).fips).toBe(true);
  });
});
