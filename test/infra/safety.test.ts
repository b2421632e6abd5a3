// Properties of every resource of every stack of the examples.
import { Template } from 'aws-cdk-lib/assertions';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { MARK_TAG } from '../../worker/images/scratch-mark.ts';
import { readSettings } from '../../infra/settings/settings.ts';
import { EXAMPLES, stacksOf } from './templates.ts';

const resource = z.object({
  Type: z.string(),
  DeletionPolicy: z.string().optional(),
  UpdateReplacePolicy: z.string().optional(),
  Properties: z.record(z.string(), z.unknown()).default({}),
});
const actions = z.union([z.string().transform((one) => [one]), z.array(z.string())]);
const grant = z.object({ Effect: z.literal('Allow'), Action: actions });
const policy = z.object({ Statement: z.array(z.looseObject({ Effect: z.string() })) });
const parameters = z.record(z.string(), z.object({ Type: z.string() }));

/** Resources whose loss is permanent. Queues are not among them: the planner finds their content again. */
const STATEFUL = new Set([
  'AWS::S3::Bucket',
  'AWS::DynamoDB::GlobalTable',
  'AWS::Backup::BackupVault',
  'AWS::Backup::LogicallyAirGappedBackupVault',
  'AWS::ECR::Repository',
]);
/** Only these keys may be deleted with their stack: no retained data is encrypted with them. */
const KEYS_THAT_MAY_GO = /^(?:Monitoring|Mail)/;

const ALL = EXAMPLES.flatMap((example) =>
  [...stacksOf(readSettings(`infra/examples/${example}.yaml`))].map(([id, stack]) => {
    const template = Template.fromStack(stack).toJSON();
    const resources = Object.entries(z.record(z.string(), resource).parse(template['Resources']));
    return { name: `${example}: ${id}`, template, resources };
  }),
);

describe.each(ALL)('$name', ({ resources, template }) => {
  const ofType = (type: string): typeof resources => resources.filter(([, { Type }]) => Type === type);

  test('retains what cannot be recreated when the stack changes or is deleted', () => {
    const kept = resources.filter(
      ([id, { Type }]) => STATEFUL.has(Type) || (Type === 'AWS::KMS::Key' && !KEYS_THAT_MAY_GO.test(id)),
    );
    // a failed first deployment may delete what it created, which is empty: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-deletionpolicy.html
    const lost = kept.filter(
      ([, one]) =>
        !['Retain', 'RetainExceptOnCreate'].includes(one.DeletionPolicy ?? '') || one.UpdateReplacePolicy !== 'Retain',
    );
    expect(lost).toEqual([]);
  });

  test('retains keys and the table in any case', () => {
    const strict = resources.filter(
      ([id, { Type }]) => /::(?:GlobalTable|Key)$/.test(Type) && !KEYS_THAT_MAY_GO.test(id),
    );
    expect(strict.filter(([, one]) => one.DeletionPolicy !== 'Retain')).toEqual([]);
  });

  test('contains no secret', () => {
    expect(ofType('AWS::SecretsManager::Secret')).toEqual([]);
    expect(Object.values(parameters.parse(template['Parameters'] ?? {})).map(({ Type }) => Type)).not.toContain(
      'String',
    );
    // keys of accounts, keys in PEM, references that CloudFormation would resolve, and properties with such names
    expect(JSON.stringify(template)).not.toMatch(
      /\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|-----BEGIN|\{\{resolve:|"(?:Password|SecretString|PrivateKey|AccessKey)"/i,
    );
  });

  test('gives no access to everyone', () => {
    const allowed = resources
      .filter(([, { Type }]) => Type !== 'AWS::EC2::VPCEndpoint')
      .flatMap(([id, { Properties }]) =>
        [
          'PolicyDocument',
          'KeyPolicy',
          'RepositoryPolicyText',
          'AssumeRolePolicyDocument',
          'AccessPolicy',
          'PolicyText',
        ]
          .flatMap((name) => policy.safeParse(Properties[name]).data?.Statement ?? [])
          .filter(({ Condition, Effect }) => Effect === 'Allow' && Condition === undefined)
          .map(({ Principal }) => ({ id, who: JSON.stringify(Principal) ?? '' })),
      );
    expect(allowed.filter(({ who }) => who === '"*"' || who.includes(':"*"'))).toEqual([]);
    for (const type of ['AWS::EC2::SecurityGroup', 'AWS::EC2::SecurityGroupIngress'])
      for (const [id, { Properties }] of ofType(type))
        expect(JSON.stringify([Properties['SecurityGroupIngress'], Properties['CidrIp']]), id).not.toMatch(
          /0\.0\.0\.0|::\/0/,
        );
  });

  test('allows no role but the Cleaner’s to delete objects or images, nor any endpoint', () => {
    const allowed = resources.flatMap(([id, { Properties }]) => grantsIn(Properties).map((action) => ({ id, action })));
    const deletes = ['s3:DeleteObject', 'ecr:BatchDeleteImage'];
    // the role for clean-up deletes from repositories for testing: the settings name both
    const known = /^(?:CleanerRole|RolesCleanUp)/;
    expect(allowed.filter(({ id, action }) => deletes.some((one) => covers(action, one)) && !known.test(id))).toEqual(
      [],
    );
    // these would bypass a lock or delete versions: not even the Cleaner may
    const never = ['s3:DeleteObjectVersion', 's3:BypassGovernanceRetention', 's3:DeleteBucket'];
    expect(allowed.filter(({ action }) => never.some((one) => covers(action, one)))).toEqual([]);
    expect(resources.some(([, { Type }]) => Type === 'Custom::S3BucketNotifications')).toBe(false);
    // the resource by which CDK empties a deleted bucket
    expect(ofType('Custom::S3AutoDeleteObjects')).toEqual([]);
  });

  test('allows only the Cleaner to delete repositories, by the name and the mark of a drill', () => {
    const some = resources.flatMap(([id, { Properties }]) =>
      (policy.safeParse(Properties['PolicyDocument']).data?.Statement ?? [])
        .filter((one) => grantsIn(one).some((action) => covers(action, 'ecr:DeleteRepository')))
        .map((statement) => ({ id, statement })),
    );
    for (const { id, statement } of some) {
      expect(id).toMatch(/^CleanerRole/);
      expect(statement['Condition']).toEqual({ Null: { [`aws:ResourceTag/${MARK_TAG}`]: 'false' } });
      for (const one of [statement['Resource']].flat())
        expect(JSON.stringify(one)).toMatch(/:repository\/[a-z0-9/._-]+\/transship-drill-\*"$/);
    }
    const inlined = resources.filter(([, { Properties }]) =>
      JSON.stringify(Properties).includes('ecr:DeleteRepository"'),
    );
    expect(inlined).toHaveLength(new Set(some.map(({ id }) => id)).size);
  });

  test('requires TLS wherever it accepts requests', () => {
    for (const [type, policies, at] of [
      ['AWS::S3::Bucket', 'AWS::S3::BucketPolicy', 'Bucket'],
      ['AWS::SQS::Queue', 'AWS::SQS::QueuePolicy', 'Queues'],
      ['AWS::SNS::Topic', 'AWS::SNS::TopicPolicy', 'Topics'],
    ] as const) {
      const closed = ofType(policies).filter(([, { Properties }]) =>
        policy
          .parse(Properties['PolicyDocument'])
          .Statement.some(
            ({ Condition, Effect }) =>
              Effect === 'Deny' && /"aws:SecureTransport":"false"/.test(JSON.stringify(Condition)),
          ),
      );
      const covered = JSON.stringify(closed.map(([, { Properties }]) => Properties[at]));
      for (const [id] of ofType(type)) expect(covered, id).toContain(`"${id}"`);
    }
  });

  test('expires every log', () => {
    expect(ofType('AWS::Logs::LogGroup').filter(([, { Properties }]) => !('RetentionInDays' in Properties))).toEqual(
      [],
    );
  });

  test('runs functions with the Node version that the worker is tested with', () => {
    for (const [id, { Properties }] of ofType('AWS::Lambda::Function'))
      expect(Properties['Runtime'], id).toBe('nodejs24.x');
  });
});

/** The actions of every statement in `value` that allows something, at any depth. */
function grantsIn(value: unknown): readonly string[] {
  if (typeof value !== 'object' || value === null) return [];
  const { data } = grant.safeParse(value);
  return [...(data?.Action ?? []), ...Object.values(value).flatMap(grantsIn)];
}

/** Whether `action`, which may have wildcards, includes `wanted`: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_action.html */
function covers(action: string, wanted: string): boolean {
  const pattern = action.replaceAll('*', '.*').replaceAll('?', '.');
  return new RegExp(`^${pattern}$`, 'i').test(wanted);
}
