import { Match, Template } from 'aws-cdk-lib/assertions';
import { array, assert as forAll, constantFrom, integer, option, property, record, tuple } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { ReplicasStack, replicaRegions } from '../../infra/registries/creation-templates.ts';
import { lifecyclePolicyText } from '../../infra/registries/lifecycle-policy.ts';
import { RegistriesStack, type RegistrySettings } from '../../infra/registries/registries.ts';
import { groupDestinations } from '../../infra/registries/replication-rules.ts';
import { ACTIONS, checkLifecycle, type LifecycleRule } from '../../infra/settings/lifecycle-rule.ts';
import { readSettings } from '../../infra/settings/settings.ts';
import { ACCOUNT, EXAMPLES, REGION, app, findings, refused, settingsOf, stacksOf, textOf } from './templates.ts';

const REPOSITORY = 'AWS::ECR::Repository';
const OTHER = '333333333333';
const KEY = `arn:aws:kms:${REGION}:${ACCOUNT}:key/0a000000-0000-4000-8000-000000000000`;

function registrySettings(text: string): RegistrySettings {
  const { registries } = settingsOf(`registries: { ${text} }`);
  if (registries === undefined) throw new Error('no registries');
  return registries;
}

function registriesStack(text: string, tags: Record<string, string> = {}): RegistriesStack {
  return new RegistriesStack(app(), 'TransshipRegistries', {
    env: { account: ACCOUNT, region: REGION },
    registries: registrySettings(text),
    tags,
    logRetentionDays: 90,
  });
}

function templateOf(text: string, tags: Record<string, string> = {}): Template {
  return Template.fromStack(registriesStack(text, tags));
}

/** The rules of the one lifecycle policy of these settings. */
function rulesOf(text: string): unknown {
  const [repository] = Object.values(templateOf(text).findResources(REPOSITORY));
  const policy: unknown = repository?.['Properties']?.['LifecyclePolicy']?.['LifecyclePolicyText'];
  return typeof policy === 'string' ? readRules(policy) : undefined;
}

function readRules(text: string): unknown {
  const { rules }: { rules: unknown } = JSON.parse(text);
  return rules;
}

function rule(priority: number, description: string, selection: object): unknown {
  return { rulePriority: priority, description, selection, action: { type: 'expire' } };
}

function archive(priority: number, description: string, selection: object): unknown {
  const action = { type: 'transition', targetStorageClass: 'archive' };
  return { rulePriority: priority, description, selection, action };
}

function age(tagStatus: string, countNumber: number): object {
  return { tagStatus, countType: 'sinceImagePushed', countUnit: 'days', countNumber };
}

function newest(countNumber: number): object {
  return { tagStatus: 'tagged', tagPatternList: ['*'], countType: 'imageCountMoreThan', countNumber };
}

const countNumber = z.int().positive();
const DAYS = { countUnit: z.literal('days'), countNumber };
const AGE = { countType: z.literal('sinceImagePushed'), ...DAYS };
const PULLED = { countType: z.literal('sinceImagePulled'), ...DAYS };
const NUMBER = { countType: z.literal('imageCountMoreThan'), countNumber };
const TAGGED = { tagStatus: z.literal('tagged'), tagPatternList: z.array(z.string().min(1)).length(1) };
const ANY = { tagStatus: z.enum(['any', 'untagged']) };
const ARCHIVED = {
  storageClass: z.literal('archive'),
  countType: z.literal('sinceImageTransitioned'),
  countUnit: z.literal('days'),
  countNumber: z.int().min(90),
};
const EXPIRE = z.strictObject({ type: z.literal('expire') });
const TRANSITION = z.strictObject({ type: z.literal('transition'), targetStorageClass: z.literal('archive') });
const RULE = { rulePriority: z.int().positive(), description: z.string().min(1) };
/** Of what ECR takes: what is used here. Without null, and without storageClass but where it has to be there: ECR refuses both. */
const LIFECYCLE_POLICY = z.strictObject({
  rules: z
    .array(
      z.union([
        z.strictObject({
          ...RULE,
          selection: z.union([
            z.strictObject({ ...TAGGED, ...AGE }),
            z.strictObject({ ...TAGGED, ...NUMBER }),
            z.strictObject({ ...ANY, ...AGE }),
            z.strictObject({ ...ANY, ...NUMBER }),
          ]),
          action: z.union([EXPIRE, TRANSITION]),
        }),
        z.strictObject({
          ...RULE,
          selection: z.union([z.strictObject({ ...TAGGED, ...PULLED }), z.strictObject({ ...ANY, ...PULLED })]),
          action: TRANSITION,
        }),
        z.strictObject({
          ...RULE,
          selection: z.union([z.strictObject({ ...TAGGED, ...ARCHIVED }), z.strictObject({ ...ANY, ...ARCHIVED })]),
          action: EXPIRE,
        }),
      ]),
    )
    .min(1)
    .max(50),
});

/** https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html#lp_evaluation_rules */
function expectTakenByEcr(text: string): void {
  expect(text.length).toBeLessThanOrEqual(30_720);
  const rules = LIFECYCLE_POLICY.parse(JSON.parse(text)).rules;
  expect(rules.map(({ rulePriority }) => rulePriority)).toEqual(rules.map((_, i) => i + 1));
  const statuses = rules.map(({ selection }) => selection.tagStatus);
  const first = statuses.indexOf('any');
  if (first >= 0) expect(new Set(statuses.slice(first))).toEqual(new Set(['any']));
  // one for whatever it selects, of images of each storage class
  const selections = rules.map(({ selection }) =>
    JSON.stringify([
      'storageClass' in selection,
      selection.tagStatus,
      'tagPatternList' in selection && selection.tagPatternList,
    ]),
  );
  expect(new Set(selections).size).toBe(selections.length);
}

describe('repositories', () => {
  test('of production: immutable, scanned, the last 100 images with a tag, untagged gone after a day, and it stays', () => {
    const text = 'repositories: [{ name: product/api }]';
    templateOf(text).hasResource(REPOSITORY, {
      Properties: {
        RepositoryName: 'product/api',
        ImageTagMutability: 'IMMUTABLE',
        ImageScanningConfiguration: { ScanOnPush: true },
        RepositoryPolicyText: Match.absent(),
      },
      DeletionPolicy: 'RetainExceptOnCreate',
      UpdateReplacePolicy: 'Retain',
    });
    expect(rulesOf(text)).toEqual([
      rule(1, 'untagged for 1 day', age('untagged', 1)),
      rule(2, 'all but the last 100 tagged images', newest(100)),
    ]);
  });

  test('of testing: mutable, scanned on push, all gone after 7 days', () => {
    const text = 'repositories: [{ name: ci/api, shape: testing }]';
    templateOf(text).hasResource(REPOSITORY, {
      Properties: { ImageTagMutability: 'MUTABLE', ImageScanningConfiguration: { ScanOnPush: true } },
      DeletionPolicy: 'RetainExceptOnCreate',
    });
    expect(rulesOf(text)).toEqual([
      rule(1, 'untagged for 1 day', age('untagged', 1)),
      rule(2, 'older than 7 days', age('any', 7)),
    ]);
  });

  test('what one says itself goes before its shape', () => {
    const text = `repositories: [{ name: ci/api, shape: testing, immutable: true, scanOnPush: false, keepLast: 1, untaggedAfterDays: 3, key: '${KEY}', tags: { team: tea } }]`;
    templateOf(text).hasResourceProperties(REPOSITORY, {
      ImageTagMutability: 'IMMUTABLE',
      ImageScanningConfiguration: { ScanOnPush: false },
      EncryptionConfiguration: { EncryptionType: 'KMS', KmsKey: KEY },
      Tags: [{ Key: 'team', Value: 'tea' }],
    });
    expect(rulesOf(text)).toEqual([
      rule(1, 'untagged for 3 days', age('untagged', 3)),
      rule(2, 'all but the last 1 tagged image', newest(1)),
    ]);
  });

  test('an age takes the place of the number of the shape: a tagged image is held to one rule', () => {
    expect(rulesOf('repositories: [{ name: product/api, expireAfterDays: 400 }]')).toEqual([
      rule(1, 'untagged for 1 day', age('untagged', 1)),
      rule(2, 'older than 400 days', age('any', 400)),
    ]);
  });

  test('a rule for any image is the last one, whatever else there is', () => {
    for (const retention of [
      { expireAfterDays: 9 },
      { untaggedAfterDays: 2, expireAfterDays: 9 },
      { keepLast: 3, expireAfterDays: 9 },
    ]) {
      const statuses = [...(lifecyclePolicyText(retention) ?? '').matchAll(/"tagStatus":"(\w+)"/g)].map(([, s]) => s);
      expect(statuses.indexOf('any')).toBe(statuses.length - 1);
    }
    expect(lifecyclePolicyText({})).toBeUndefined();
  });

  // https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html
  test('a lifecycle policy is one that ECR takes, whatever is said', () => {
    const days = option(integer({ min: 1, max: 36_500 }), { nil: undefined });
    const retention = record({
      keepLast: option(integer({ min: 1, max: 100_000 }), { nil: undefined }),
      expireAfterDays: days,
      untaggedAfterDays: days,
    });
    forAll(
      property(retention, (some) => {
        const text = lifecyclePolicyText(some);
        if (text === undefined) {
          expect(Object.values(some).filter((value) => value !== undefined)).toEqual([]);
          return;
        }
        expectTakenByEcr(text);
      }),
    );
  });

  test('rules of the settings are those of ECR in their order, archived images held to rules of their own, and whatever is for all images last', () => {
    const text = `repositories: [{ name: product/api, lifecycle: [
      { tagged: 'prod-*', keepLast: 50 },
      { tagged: 'pr-*', expireAfterDays: 14 },
      { tagged: 'release-*', archiveUnpulledAfterDays: 90, expireArchivedAfterDays: 365 },
      { tagged: '*-nightly', archiveAfterDays: 1 },
      { tagged: '*', archiveAllButLast: 10 },
      { untagged: true, expireAfterDays: 1 },
      { expireArchivedAfterDays: 90 }] }]`;
    const tagged = (pattern: string, rest: object): object => ({
      tagStatus: 'tagged',
      tagPatternList: [pattern],
      ...rest,
    });
    const days = (countType: string, n: number): object => ({ countType, countUnit: 'days', countNumber: n });
    const archived = (n: number): object => ({ storageClass: 'archive', ...days('sinceImageTransitioned', n) });
    expect(rulesOf(text)).toEqual([
      rule(
        1,
        'images tagged prod-*: all but the last 50 deleted',
        tagged('prod-*', { countType: 'imageCountMoreThan', countNumber: 50 }),
      ),
      rule(2, 'images tagged pr-*: deleted 14 days after their push', tagged('pr-*', days('sinceImagePushed', 14))),
      archive(
        3,
        'images tagged release-*: archived 90 days after their last pull',
        tagged('release-*', days('sinceImagePulled', 90)),
      ),
      rule(4, 'images tagged release-*: deleted 365 days after they were archived', tagged('release-*', archived(365))),
      archive(
        5,
        'images tagged *-nightly: archived 1 day after their push',
        tagged('*-nightly', days('sinceImagePushed', 1)),
      ),
      archive(6, 'images tagged *: all but the last 10 archived', newest(10)),
      rule(7, 'untagged images: deleted 1 day after their push', age('untagged', 1)),
      rule(8, 'all images: deleted 90 days after they were archived', { tagStatus: 'any', ...archived(90) }),
    ]);
  });

  test('rules of the settings that are not refused are a policy that ECR takes', () => {
    const of = constantFrom({ tagged: '*' }, { tagged: 'prod-*' }, { tagged: 'v1' }, { untagged: true } as const, {});
    const n = integer({ min: 90, max: 36_500 });
    const one = tuple(of, option(constantFrom(...ACTIONS)), n, option(n, { nil: undefined })).map(
      ([selector, action, number, archived]): LifecycleRule => ({
        tagged: 'tagged' in selector ? selector.tagged : undefined,
        untagged: 'untagged' in selector ? true : undefined,
        [action ?? 'keepLast']: action === null ? undefined : number,
        expireArchivedAfterDays: archived,
      }),
    );
    let taken = 0;
    forAll(
      property(array(one, { minLength: 1, maxLength: 4 }), (lifecycle) => {
        const refusals: string[] = [];
        checkLifecycle(lifecycle, (_, message) => void refusals.push(message));
        if (refusals.length > 0) return;
        taken++;
        expectTakenByEcr(lifecyclePolicyText({ lifecycle }) ?? '');
      }),
      { numRuns: 1000 },
    );
    expect(taken).toBeGreaterThan(100);
  });

  test('a lifecycle is all of the policy, of a shape, of a repository that exists and of a template', () => {
    const lifecycle = "lifecycle: [{ tagged: 'pr-*', expireAfterDays: 3 }]";
    const only = [
      rule(1, 'images tagged pr-*: deleted 3 days after their push', { ...age('tagged', 3), tagPatternList: ['pr-*'] }),
    ];
    expect(rulesOf(`repositories: [{ name: ci/api, shape: testing, ${lifecycle} }]`)).toEqual(only);
    for (const text of [
      `repositories: [{ name: legacy/app, existing: true, ${lifecycle} }]`,
      `templates: [{ prefix: product, appliedFor: [REPLICATION], ${lifecycle} }]`,
    ])
      expect(JSON.stringify(templateOf(text).toJSON()).replaceAll('\\', '')).toContain(
        'images tagged pr-*: deleted 3 days after their push',
      );
  });

  test('accounts that may pull may only pull', () => {
    const template = templateOf(`repositories: [{ name: product/api, pullAccounts: ['${OTHER}', '444444444444'] }]`);
    template.hasResourceProperties(REPOSITORY, {
      RepositoryPolicyText: {
        Statement: [
          {
            Effect: 'Allow',
            Action: ['ecr:BatchCheckLayerAvailability', 'ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer'],
            Principal: { AWS: [Match.anyValue(), Match.anyValue()] },
            Sid: Match.anyValue(),
          },
        ],
      },
    });
    const text = JSON.stringify(template.findResources(REPOSITORY));
    expect(text).toContain(`:iam::${OTHER}:root`);
    expect(text).toContain(':iam::444444444444:root');
  });
});

describe('the policy of a repository', () => {
  const statements = (more: string): readonly object[] => {
    const [found] = Object.values(
      templateOf(`repositories: [{ name: product/api, ${more} }]`).findResources(REPOSITORY),
    );
    return found?.['Properties'].RepositoryPolicyText.Statement;
  };
  const PULL = ['ecr:BatchCheckLayerAvailability', 'ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer'];

  test('lets other accounts push, and pull what they pushed', () => {
    const PUSH = ['ecr:CompleteLayerUpload', 'ecr:InitiateLayerUpload', 'ecr:PutImage', 'ecr:UploadLayerPart'];
    const Action = [...PULL, ...PUSH].toSorted();
    expect(statements(`pushAccounts: ['${OTHER}']`)).toEqual([
      { Sid: 'PushFromOtherAccounts', Effect: 'Allow', Action, Principal: { AWS: expect.anything() } },
    ]);
  });

  test('lets an organization pull, and nobody outside of it', () => {
    expect(statements('pullOrganization: o-a1b2c3d4e5')).toEqual([
      {
        Sid: 'PullFromOrganization',
        Effect: 'Allow',
        Action: PULL,
        Principal: { AWS: '*' },
        Condition: { StringEquals: { 'aws:PrincipalOrgID': 'o-a1b2c3d4e5' } },
      },
    ]);
  });

  test('lets Lambda of other accounts have the image of their functions', () => {
    const [service, accounts] = statements(`lambdaAccounts: ['${OTHER}']`);
    expect(service).toMatchObject({
      Action: ['ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer'],
      Principal: { Service: 'lambda.amazonaws.com' },
    });
    expect(JSON.stringify(service)).toContain(`:lambda:*:${OTHER}:function:*`);
    expect(accounts).toMatchObject({ Sid: 'AccountsOfLambda', Principal: { AWS: expect.anything() } });
  });

  test('is set on a repository that exists, too', () => {
    const text = 'repositories: [{ name: legacy/app, existing: true, pullOrganization: o-a1b2c3d4e5 }]';
    expect(JSON.stringify(templateOf(text).findResources('Custom::SetRepositoryPolicy'))).toContain(
      'aws:PrincipalOrgID',
    );
  });
});

describe('a repository that exists', () => {
  const LIFECYCLE = 'Custom::PutLifecyclePolicy';
  const POLICY = 'Custom::SetRepositoryPolicy';

  test('is not created, and with nothing said nothing is done to it', () => {
    const template = templateOf('repositories: [{ name: legacy/app, existing: true }]');
    template.resourceCountIs(REPOSITORY, 0);
    template.resourceCountIs(LIFECYCLE, 0);
    template.resourceCountIs(POLICY, 0);
    template.resourceCountIs('AWS::Lambda::Function', 0);
  });

  test('gets the lifecycle policy that is said, without what its shape would add', () => {
    const template = templateOf('repositories: [{ name: legacy/app, existing: true, untaggedAfterDays: 14 }]');
    template.resourceCountIs(POLICY, 0);
    expect(setParameters(template, LIFECYCLE)).toEqual({
      repositoryName: 'legacy/app',
      lifecyclePolicyText: JSON.stringify({ rules: [rule(1, 'untagged for 14 days', age('untagged', 14))] }),
    });
  });

  test('gets the lifecycle policy of a shape that it names', () => {
    const template = templateOf('repositories: [{ name: legacy/app, existing: true, shape: testing }]');
    const { lifecyclePolicyText: text } = setParameters(template, LIFECYCLE);
    expect(readRules(text ?? '')).toHaveLength(2);
  });

  test('gets the policy for who may pull, and loses it when nobody may any more', () => {
    const template = templateOf(`repositories: [{ name: legacy/app, existing: true, pullAccounts: ['${OTHER}'] }]`);
    template.resourceCountIs(LIFECYCLE, 0);
    const { policyText } = setParameters(template, POLICY);
    expect(policyText).toContain(`arn:aws:iam::${OTHER}:root`);
    const [resource] = Object.values(template.findResources(POLICY));
    expect(JSON.parse(String(resource?.['Properties']?.['Delete']))).toMatchObject({
      action: 'DeleteRepositoryPolicy',
      parameters: { repositoryName: 'legacy/app' },
      ignoreErrorCodesMatching: '^(?:RepositoryPolicyNotFoundException|RepositoryNotFoundException)$',
    });
  });

  test('the function may do so on that repository, and fetches nothing while it runs', () => {
    const template = templateOf(
      `repositories: [{ name: legacy/app, existing: true, keepLast: 9, pullAccounts: ['${OTHER}'] }, { name: product/api }]`,
    );
    template.resourceCountIs('AWS::Lambda::Function', 1);
    template.hasResourceProperties('AWS::Logs::LogGroup', { RetentionInDays: 90 });
    for (const type of [LIFECYCLE, POLICY]) template.hasResourceProperties(type, { InstallLatestAwsSdk: false });
    const policies = Object.values(template.findResources('AWS::IAM::Policy'));
    expect(policies.map((policy) => policy['Properties']?.['PolicyDocument']?.['Statement'])).toEqual(
      [
        ['ecr:DeleteLifecyclePolicy', 'ecr:PutLifecyclePolicy'],
        ['ecr:DeleteRepositoryPolicy', 'ecr:SetRepositoryPolicy'],
      ].map((Action) => [
        { Effect: 'Allow', Action, Resource: `arn:aws:ecr:${REGION}:${ACCOUNT}:repository/legacy/app` },
      ]),
    );
  });

  function setParameters(template: Template, type: string): Record<string, string> {
    const [resource] = Object.values(template.findResources(type));
    const create: { parameters: Record<string, string> } = JSON.parse(String(resource?.['Properties']?.['Create']));
    expect(resource?.['Properties']?.['Update']).toBe(resource?.['Properties']?.['Create']);
    return create.parameters;
  }
});

describe('replication', () => {
  test('destinations with the same prefixes are one rule, in whatever order they are named', () => {
    const rules = groupDestinations(
      [
        { region: 'eu-west-1', prefixes: ['a/', 'b/'] },
        { region: 'us-east-1', prefixes: ['b/', 'a/'] },
        { region: 'us-east-1', account: OTHER, prefixes: [] },
      ],
      ACCOUNT,
    );
    expect(rules).toEqual([
      {
        prefixes: ['a/', 'b/'],
        destinations: [
          { account: ACCOUNT, region: 'eu-west-1' },
          { account: ACCOUNT, region: 'us-east-1' },
        ],
      },
      { prefixes: [], destinations: [{ account: OTHER, region: 'us-east-1' }] },
    ]);
  });

  test('a destination named twice has the prefixes of both, and all where one has none', () => {
    const twice = (prefixes: string[]): unknown =>
      groupDestinations(
        [
          { region: 'eu-west-1', prefixes: ['a/'] },
          { region: 'eu-west-1', account: ACCOUNT, prefixes },
        ],
        ACCOUNT,
      );
    expect(twice(['b/', 'a/'])).toEqual([
      { prefixes: ['a/', 'b/'], destinations: [{ account: ACCOUNT, region: 'eu-west-1' }] },
    ]);
    expect(twice([])).toEqual([{ prefixes: [], destinations: [{ account: ACCOUNT, region: 'eu-west-1' }] }]);
  });

  test('is configured with filters by prefix, none where all is replicated', () => {
    const text = `replication: [{ region: eu-west-1, prefixes: [product/] }, { region: ${REGION}, account: '${OTHER}' }]`;
    templateOf(text).hasResourceProperties('AWS::ECR::ReplicationConfiguration', {
      ReplicationConfiguration: {
        Rules: [
          {
            Destinations: [{ Region: 'eu-west-1', RegistryId: ACCOUNT }],
            RepositoryFilters: [{ Filter: 'product/', FilterType: 'PREFIX_MATCH' }],
          },
          { Destinations: [{ Region: REGION, RegistryId: OTHER }], RepositoryFilters: Match.absent() },
        ],
      },
    });
  });

  test('that nobody asked for is neither configured nor admitted', () => {
    const template = templateOf('repositories: [{ name: product/api }]');
    template.resourceCountIs('AWS::ECR::ReplicationConfiguration', 0);
    template.resourceCountIs('AWS::ECR::RegistryPolicy', 0);
    template.resourceCountIs('AWS::IAM::Role', 0);
  });

  test('of other accounts is admitted, and they may do nothing else', () => {
    const repositories = (prefix: string): string => `arn:aws:ecr:${REGION}:${ACCOUNT}:repository/${prefix}*`;
    const template = templateOf(
      `replicationSources: [{ account: '${OTHER}' }, { account: '444444444444', prefixes: [partner/, shared] }]`,
    );
    const [policy] = Object.values(template.findResources('AWS::ECR::RegistryPolicy'));
    const [all, some, ...more] = policy?.['Properties']?.['PolicyText']?.['Statement'] ?? [];
    expect(more).toEqual([]);
    for (const [statement, account, resources] of [
      [all, OTHER, repositories('')],
      [some, '444444444444', [repositories('partner/'), repositories('shared')]],
    ] as const) {
      expect(statement).toMatchObject({
        Effect: 'Allow',
        Action: ['ecr:CreateRepository', 'ecr:ReplicateImage'],
        Resource: resources,
      });
      expect(textOf(statement.Principal.AWS)).toMatch(new RegExp(`:iam::${account}:root$`));
    }
  });

  test('tells how to look whether an image has arrived', () => {
    const outputs = JSON.stringify(
      templateOf('repositories: [{ name: product/api }], replication: [{ region: eu-west-1 }]').findOutputs('*'),
    );
    expect(outputs).toContain(
      `aws ecr describe-image-replication-status --repository-name product/api --image-id imageTag=TAG --region ${REGION}`,
    );
    expect(outputs).toContain(
      `aws ecr start-replication-backfill --destination region=eu-west-1,registryId=${ACCOUNT} --region ${REGION}`,
    );
    expect(JSON.stringify(templateOf('repositories: [{ name: product/api }]').findOutputs('*'))).not.toContain(
      'replication',
    );
  });
});

test.each(EXAMPLES)('outputs of the example %s have no <placeholder>: a shell takes it for a file', (example) => {
  for (const [id, stack] of stacksOf(readSettings(`infra/examples/${example}.yaml`)))
    for (const [name, { Value }] of Object.entries(Template.fromStack(stack).findOutputs('*')))
      // what CloudFormation works out
      expect(textOf(Value).replaceAll(/<[A-Z][\w:.]+>/g, ''), `${id} ${name}`).not.toMatch(/[<>]/);
});

test('outputs name what is there', () => {
  const commands = Object.values(
    templateOf(
      'repositories: [{ name: legacy/app, existing: true }, { name: product/api }], replication: [{ region: eu-west-1 }]',
    ).findOutputs('*'),
  ).map(({ Value }) => textOf(Value));
  expect(commands).toContain(
    ['start-lifecycle-policy-preview', 'wait lifecycle-policy-preview-complete', 'get-lifecycle-policy-preview']
      .map((command) => `aws ecr ${command} --repository-name product/api --region ${REGION}`)
      .join(' && '),
  );
  // one that exists has no lifecycle policy unless it is said
  const without = templateOf('repositories: [{ name: legacy/app, existing: true }]').findOutputs('*');
  expect(Object.keys(without)).toEqual(['Login', 'LegacyAppUri', 'CheckRepositories']);
});

describe('templates', () => {
  const TEMPLATE = 'AWS::ECR::RepositoryCreationTemplate';

  test('say how ECR makes repositories, and need no role where there is no key and no tag', () => {
    const template = templateOf(
      'templates: [{ prefix: product/, appliedFor: [REPLICATION, CREATE_ON_PUSH], keepLast: 20, untaggedAfterDays: 2 }, { prefix: ROOT, appliedFor: [PULL_THROUGH_CACHE], immutable: false }]',
    );
    template.hasResourceProperties(TEMPLATE, {
      Prefix: 'product',
      AppliedFor: ['REPLICATION', 'CREATE_ON_PUSH'],
      ImageTagMutability: 'IMMUTABLE',
      EncryptionConfiguration: { EncryptionType: 'AES256' },
      LifecyclePolicy: JSON.stringify({
        rules: [
          rule(1, 'untagged for 2 days', age('untagged', 2)),
          rule(2, 'all but the last 20 tagged images', newest(20)),
        ],
      }),
      CustomRoleArn: Match.absent(),
      ResourceTags: Match.absent(),
    });
    template.hasResourceProperties(TEMPLATE, {
      Prefix: 'ROOT',
      ImageTagMutability: 'MUTABLE',
      LifecyclePolicy: Match.absent(),
    });
    template.resourceCountIs('AWS::IAM::Role', 0);
  });

  test('leave the tags of a cache as they are, unless it is said: it could not take up one that has moved', () => {
    const template = templateOf(
      'templates: [{ prefix: hub, appliedFor: [PULL_THROUGH_CACHE, REPLICATION] }, { prefix: quay, appliedFor: [PULL_THROUGH_CACHE], immutable: true }]',
    );
    template.hasResourceProperties(TEMPLATE, { Prefix: 'hub', ImageTagMutability: 'MUTABLE' });
    template.hasResourceProperties(TEMPLATE, { Prefix: 'quay', ImageTagMutability: 'IMMUTABLE' });
  });

  test('with tags or a key have a role that may make such repositories, and no others', () => {
    const template = templateOf(`templates: [{ prefix: product, appliedFor: [REPLICATION], key: '${KEY}' }]`, {
      owner: 'platform',
    });
    template.hasResourceProperties(TEMPLATE, {
      ResourceTags: [{ Key: 'owner', Value: 'platform' }],
      EncryptionConfiguration: { EncryptionType: 'KMS', KmsKey: KEY },
      CustomRoleArn: { 'Fn::GetAtt': [Match.stringLikeRegexp('^TemplatesRole'), 'Arn'] },
    });
    template.hasResourceProperties('AWS::IAM::Role', {
      AssumeRolePolicyDocument: { Statement: [Match.objectLike({ Principal: { Service: 'ecr.amazonaws.com' } })] },
    });
    template.hasResourceProperties('AWS::IAM::Policy', {
      PolicyDocument: {
        Statement: [
          {
            Effect: 'Allow',
            Action: ['ecr:CreateRepository', 'ecr:ReplicateImage', 'ecr:TagResource'],
            Resource: `arn:aws:ecr:${REGION}:${ACCOUNT}:repository/product/*`,
          },
          { Effect: 'Allow', Action: ['kms:CreateGrant', 'kms:DescribeKey', 'kms:RetireGrant'], Resource: KEY },
        ],
      },
    });
  });

  test('for replicas are in the regions of this account that have them, each key in its own', () => {
    const registries = registrySettings(
      [
        'replication: [{ region: eu-west-1 }, { region: us-east-1 }, { region: eu-west-1, prefixes: [a1/] },',
        `{ region: ap-south-1, account: '${OTHER}' }],`,
        "templates: [{ prefix: a1, appliedFor: [REPLICATION, CREATE_ON_PUSH], key: 'arn:aws:kms:us-east-1:111111111111:key/10000000-0000-4000-8000-000000000000' },",
        '{ prefix: b1, appliedFor: [CREATE_ON_PUSH] }]',
      ].join(' '),
    );
    expect(replicaRegions(registries, ACCOUNT)).toEqual(['eu-west-1', 'us-east-1']);
    const template = Template.fromStack(
      new ReplicasStack(app(), 'Replicas', {
        env: { account: ACCOUNT, region: 'us-east-1' },
        registries,
        home: REGION,
        tags: {},
      }),
    );
    template.resourceCountIs(TEMPLATE, 1);
    template.hasResourceProperties(TEMPLATE, { Prefix: 'a1', AppliedFor: ['REPLICATION'] });
    const without = new ReplicasStack(app(), 'Replicas', {
      env: { account: ACCOUNT, region: 'eu-west-1' },
      registries,
      home: REGION,
      tags: {},
    });
    Template.fromStack(without).resourceCountIs(TEMPLATE, 0);
  });

  test('are there before replication begins: a repository that ECR makes without one stays without', () => {
    const stacks = stacksOf(settingsOf('registries: { replication: [{ region: eu-west-1 }, { region: us-east-1 }] }'));
    expect(stacks.get('TransshipRegistries')?.dependencies.map(({ node }) => node.id)).toEqual([
      'TransshipReplicas-eu-west-1',
      'TransshipReplicas-us-east-1',
    ]);
  });

  test('without a key are in every region that has replicas, each once', () => {
    const text =
      'replication: [{ region: eu-west-1 }, { region: us-east-1, prefixes: [a1/] }, { region: us-east-1, prefixes: [b1/] }], templates: [{ prefix: a1, appliedFor: [REPLICATION] }]';
    expect(replicaRegions(registrySettings(text), ACCOUNT)).toEqual(['eu-west-1', 'us-east-1']);
  });
});

describe('roles', () => {
  const REPOSITORIES =
    'repositories: [{ name: product/api }, { name: ci/api, shape: testing }, { name: legacy/app, existing: true }]';
  const CI = `arn:aws:iam::${ACCOUNT}:role/ci`;
  const TOKEN = { Effect: 'Allow', Action: 'ecr:GetAuthorizationToken', Resource: '*' };

  function statementsOf(text: string): unknown {
    const template = templateOf(`${REPOSITORIES}, roles: { ${text} }`);
    template.resourceCountIs('AWS::IAM::Role', 1);
    const [policy] = Object.values(template.findResources('AWS::IAM::Policy'));
    return policy?.['Properties']?.['PolicyDocument']?.['Statement'];
  }

  const api = { 'Fn::GetAtt': [expect.stringMatching(/^Repositoryproductapi/), 'Arn'] };
  const testing = { 'Fn::GetAtt': [expect.stringMatching(/^Repositoryciapi/), 'Arn'] };
  const legacy = `arn:aws:ecr:${REGION}:${ACCOUNT}:repository/legacy/app`;

  test('that nobody may assume is not there', () => {
    templateOf('repositories: [{ name: product/api }]').resourceCountIs('AWS::IAM::Role', 0);
  });

  test('pull: from what is not for testing, and only pulling', () => {
    expect(statementsOf(`pull: ['${CI}']`)).toEqual([
      {
        Effect: 'Allow',
        Action: ['ecr:BatchCheckLayerAvailability', 'ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer'],
        Resource: [legacy, api],
      },
      TOKEN,
    ]);
  });

  test('push: to the repositories named', () => {
    expect(statementsOf(`push: ['${CI}']`)).toEqual([
      {
        Effect: 'Allow',
        Action: [
          'ecr:BatchCheckLayerAvailability',
          'ecr:BatchGetImage',
          'ecr:CompleteLayerUpload',
          'ecr:GetDownloadUrlForLayer',
          'ecr:InitiateLayerUpload',
          'ecr:PutImage',
          'ecr:UploadLayerPart',
        ],
        Resource: [legacy, testing, api],
      },
      TOKEN,
    ]);
  });

  test('clean-up: deletes images of testing', () => {
    expect(statementsOf(`cleanUp: ['${CI}']`)).toEqual([
      {
        Effect: 'Allow',
        Action: ['ecr:BatchDeleteImage', 'ecr:DescribeImages', 'ecr:ListImages'],
        Resource: testing,
      },
    ]);
  });

  test('is assumed by who is named', () => {
    templateOf(`${REPOSITORIES}, roles: { pull: ['${CI}', 'arn:aws:iam::${OTHER}:root'] }`).hasResourceProperties(
      'AWS::IAM::Role',
      {
        AssumeRolePolicyDocument: {
          Statement: [
            { Effect: 'Allow', Action: 'sts:AssumeRole', Principal: { AWS: [CI, `arn:aws:iam::${OTHER}:root`] } },
          ],
        },
      },
    );
  });
});

test('cdk-nag finds nothing', () => {
  const stack = registriesStack(
    [
      `repositories: [{ name: product/api, pullAccounts: ['${OTHER}'], pushAccounts: ['${OTHER}'], pullOrganization: o-a1b2c3d4e5, lambdaAccounts: ['${OTHER}'] }, { name: ci/api, shape: testing },`,
      `{ name: legacy/app, existing: true, keepLast: 3, pullAccounts: ['${OTHER}'] }], replication: [{ region: us-east-1 }],`,
      `templates: [{ prefix: ROOT, appliedFor: [REPLICATION], key: '${KEY}' }, { prefix: a1, appliedFor: [REPLICATION] }],`,
      `replicationSources: [{ account: '${OTHER}' }], roles: { pull: [PRINCIPAL], push: [PRINCIPAL], cleanUp: [PRINCIPAL] }`,
    ]
      .join(' ')
      .replaceAll('PRINCIPAL', `'arn:aws:iam::${ACCOUNT}:role/ci'`),
    { owner: 'platform' },
  );
  expect(findings(stack)).toEqual([]);
});

describe('settings of registries that are refused', () => {
  const at = (path: string, message: string): string => `test.yaml: registries.${path}: ${message}`;
  const destinations = (n: number, more = ''): string =>
    Array.from({ length: n }, (_, i) => `{ region: eu-west-1, account: '${String(i).padStart(12, '5')}'${more} }`).join(
      ', ',
    );
  const NOT_OF_EXISTING = 'is set where a repository is created: this one exists already';

  test.each([
    [
      'replication to the own region',
      `replication: [{ region: us-east-1 }, { region: ${REGION} }]`,
      at(`replication.1.region "${REGION}"`, `${REGION} of this account is where the images are: name another`),
    ],
    [
      'replication to the own region by the own account',
      `replication: [{ region: ${REGION}, account: '${ACCOUNT}' }]`,
      at(`replication.0.region "${REGION}"`, `${REGION} of this account is where the images are: name another`),
    ],
    [
      'more than 25 destinations',
      `replication: [${destinations(26)}]`,
      at('replication', '26 destinations are more than the 25 that ECR has'),
    ],
    [
      'more than 10 rules',
      `replication: [${Array.from({ length: 11 }, (_, i) =>
        destinations(i + 1, `, prefixes: [p${i}/]`)
          .split(' }, ')
          .at(-1),
      ).join(', ')}]`,
      at(
        'replication',
        'destinations with 11 different lists of prefixes are as many rules, and ECR has 10: give some of them the same prefixes',
      ),
    ],
    [
      'more than 100 prefixes of a destination, said in two pieces',
      `replication: [{ region: us-east-1, prefixes: [${names(0, 60)}] }, { region: us-east-1, prefixes: [${names(60, 101)}] }]`,
      at('replication', `101 prefixes for us-east-1 of ${ACCOUNT} are more than the 100 that a rule of ECR has`),
    ],
    [
      'a prefix that no name begins with',
      'replication: [{ region: us-east-1, prefixes: [Product/] }]',
      at('replication.0.prefixes.0 "Product/"', 'expected what names of repositories begin with, such as product/'),
    ],
    [
      'an account that is no string of twelve digits',
      "replicationSources: [{ account: '12' }]",
      at('replicationSources.0.account "12"', 'expected the twelve digits of an account, in quotes'),
    ],
    [
      'a number and an age',
      'repositories: [{ name: a/b, keepLast: 5, expireAfterDays: 7 }]',
      at(
        'repositories.0.expireAfterDays 7',
        'cannot stand beside keepLast 5: ECR holds a tagged image to one rule of a lifecycle policy, so take one of the two, or a prune rule with both',
      ),
    ],
    ...(
      [
        [
          '{ tagged: x }',
          '.0',
          'it does nothing: name one of keepLast, expireAfterDays, archiveAllButLast, archiveAfterDays, archiveUnpulledAfterDays, expireArchivedAfterDays',
        ],
        [
          '{ tagged: x, keepLast: 3, expireAfterDays: 4 }',
          '.0.expireAfterDays 4',
          'cannot stand beside keepLast: a rule of ECR does one of the two',
        ],
        [
          '{ tagged: x, untagged: true, keepLast: 3 }',
          '.0.untagged true',
          'an image has a tag or has none: take one of tagged and untagged',
        ],
        [
          '{ keepLast: 3 }',
          '.0.keepLast 3',
          "counts the platforms of an index as images of their own: say tagged: '*' beside it",
        ],
        [
          '{ tagged: x, expireArchivedAfterDays: 89 }',
          '.0.expireArchivedAfterDays 89',
          'ECR keeps what it archived for 90 days at the least',
        ],
        ["{ tagged: '*a*b*c*d*', keepLast: 3 }", '.0.tagged "*a*b*c*d*"', 'ECR takes four * in a pattern'],
        ["{ tagged: '[a]', keepLast: 3 }", '.0.tagged "[a]"', 'expected a tag, or a pattern such as prod-*'],
        [
          '{ tagged: x, keepLast: 3 }, { tagged: x, expireAfterDays: 4 }',
          '.1',
          'a rule before it has images tagged x already',
        ],
        [
          "{ tagged: '*', keepLast: 3 }, { tagged: x, expireAfterDays: 4 }",
          '.1',
          'a rule before it has all images with a tag, and ECR holds an image to the first that it matches',
        ],
        [
          '{ expireAfterDays: 3 }, { untagged: true, expireAfterDays: 1 }',
          '.1',
          'a rule before it has all images, and ECR takes that one last',
        ],
        [
          Array.from({ length: 51 }, (_, i) => `{ tagged: x${i}, keepLast: 3 }`).join(', '),
          '',
          'it makes 51 rules, and a policy of ECR has 50 at the most',
        ],
        ['', '', 'there is no rule in it: leave it out'],
      ] as const
    ).map(([rules, path, message]): [string, string, string] => [
      `lifecycle: ${message}`,
      `repositories: [{ name: a/b, lifecycle: [${rules}] }]`,
      at(`repositories.0.lifecycle${path}`, message),
    ]),
    [
      'a lifecycle beside a number',
      'templates: [{ prefix: a1, appliedFor: [REPLICATION], keepLast: 3, lifecycle: [{ tagged: x, keepLast: 3 }] }]',
      at(
        'templates.0.keepLast 3',
        'cannot stand beside lifecycle, which is the whole policy: write it as a rule of it',
      ),
    ],
    [
      'a repository twice',
      'repositories: [{ name: a/b }, { name: a/b, existing: true }]',
      at('repositories.1.name "a/b"', 'is here twice: a repository has one policy'),
    ],
    [
      'a name that ECR does not have',
      'repositories: [{ name: A/b }]',
      at('repositories.0.name "A/b"', 'expected the name of a repository'),
    ],
    [
      'a key of another region',
      "repositories: [{ name: a/b, key: 'arn:aws:kms:us-east-1:111111111111:key/10000000-0000-4000-8000-000000000000' }]",
      at(
        'repositories.0.key "arn:aws:kms:us-east-1:111111111111:key/10000000-0000-4000-8000-000000000000"',
        `a repository in ${REGION} is encrypted with a key of ${REGION}`,
      ),
    ],
    [
      'mutability of one that exists',
      'repositories: [{ name: a/b, existing: true, immutable: false }]',
      at('repositories.0.immutable false', NOT_OF_EXISTING),
    ],
    [
      'scans of one that exists',
      'repositories: [{ name: a/b, existing: true, scanOnPush: true }]',
      at('repositories.0.scanOnPush true', NOT_OF_EXISTING),
    ],
    [
      'a key of one that exists',
      `repositories: [{ name: a/b, existing: true, key: '${KEY}' }]`,
      at(`repositories.0.key "${KEY}"`, NOT_OF_EXISTING),
    ],
    [
      'tags of one that exists',
      'repositories: [{ name: a/b, existing: true, tags: { a: b } }]',
      at('repositories.0.tags', NOT_OF_EXISTING),
    ],
    [
      'a role for anybody',
      "repositories: [{ name: a/b }], roles: { pull: ['*'] }",
      at('roles.pull.0 "*"', "expected the ARN of a role or a user, or of an account's root"),
    ],
    [
      'a role for whatever begins so',
      `repositories: [{ name: a/b }], roles: { pull: ['arn:aws:iam::${OTHER}:role/*'] }`,
      at(
        `roles.pull.0 "arn:aws:iam::${OTHER}:role/*"`,
        "expected the ARN of a role or a user, or of an account's root",
      ),
    ],
    [
      'pushing to nothing',
      `replicationSources: [{ account: '${OTHER}' }], roles: { push: ['arn:aws:iam::${OTHER}:root'] }`,
      at('roles.push', 'there are no repositories to push to: name them in registries.repositories'),
    ],
    [
      'pulling where all is for testing',
      `repositories: [{ name: a/b, shape: testing }], roles: { pull: ['arn:aws:iam::${OTHER}:root'] }`,
      at('roles.pull', 'there are no repositories to pull from but those of shape testing'),
    ],
    [
      'cleaning up where nothing is for testing',
      `repositories: [{ name: a/b }], roles: { cleanUp: ['arn:aws:iam::${OTHER}:root'] }`,
      at('roles.cleanUp', 'it deletes from repositories of shape testing, and there are none'),
    ],
    [
      'a template twice',
      'templates: [{ prefix: a1, appliedFor: [REPLICATION] }, { prefix: a1, appliedFor: [CREATE_ON_PUSH] }]',
      at('templates.1.prefix "a1"', 'is here twice: a registry has one template for a prefix'),
    ],
    [
      'a template with a key of a region without replicas',
      "templates: [{ prefix: a1, appliedFor: [REPLICATION], key: 'arn:aws:kms:us-east-1:111111111111:key/10000000-0000-4000-8000-000000000000' }]",
      at(
        'templates.0.key "arn:aws:kms:us-east-1:111111111111:key/10000000-0000-4000-8000-000000000000"',
        `a template in us-east-1 would be for nothing here: the regions are ${REGION}`,
      ),
    ],
    [
      'nothing at all',
      '',
      'test.yaml: registries: there is nothing in it: name repositories, replication, templates or replicationSources, or leave it out',
    ],
    [
      'a setting that is none',
      'repositories: [{ name: a/b, keepLatest: 3 }]',
      at('repositories.0', 'there is no setting "keepLatest" here'),
    ],
  ])('%s', (_, text, message) => {
    expect(refused(`registries: { ${text} }`)).toEqual([message]);
  });

  test('what lies on a bound is not refused', () => {
    const replication = `replication: [${destinations(25, `, prefixes: [${names(0, 100)}]`)}]`;
    expect(refused(`registries: { ${replication} }`)).toEqual([]);
    expect(refused(`registries: { replication: [${destinations(25)}, ${destinations(25)}] }`)).toEqual([]);
    const ten = Array.from(
      { length: 10 },
      (_, i) => `{ region: eu-west-1, account: '55555555555${i}', prefixes: [p${i}/] }`,
    );
    expect(refused(`registries: { replication: [${ten.join(', ')}] }`)).toEqual([]);
  });

  test('a template for each region of a prefix, by the region of its key, is not refused', () => {
    const key = (region: string): string =>
      `{ prefix: a1, appliedFor: [REPLICATION], key: 'arn:aws:kms:${region}:${ACCOUNT}:key/10000000-0000-4000-8000-000000000000' }`;
    const text = `replication: [{ region: us-east-1 }], templates: [${key(REGION)}, ${key('us-east-1')}]`;
    expect(refused(`registries: { ${text} }`)).toEqual([]);
  });

  function names(from: number, to: number): string {
    return Array.from({ length: to - from }, (_, i) => `p${from + i}/`).join(', ');
  }
});
