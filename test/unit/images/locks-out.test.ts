import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { locksOut } from '../../../worker/images/locks-out.ts';

const OWN = '111111111111';
const OTHER = '999999999999';

function reason(statement: unknown): string | undefined {
  return locksOut(JSON.stringify({ Version: '2012-10-17', Statement: statement }), OWN);
}

describe('a registry policy locks its caller out that denies', () => {
  test.each<[string, object]>([
    ['everything to all', { Principal: '*', Action: '*' }],
    ['ECR to the account', { Principal: { AWS: `arn:aws:iam::${OWN}:root` }, Action: 'ecr:*' }],
    [
      'a push to a role of the account',
      { Principal: { AWS: [OTHER, `arn:aws:iam::${OWN}:role/x`] }, Action: ['ecr:PutImage'] },
    ],
    ['its replacement', { Principal: { AWS: '*' }, Action: ['ecr:DeleteRepository', 'ecr:putregistrypolicy'] }],
    ['by a wildcard', { Principal: '*', Action: 'ecr:Delete*' }],
    [
      'under a condition',
      { Principal: '*', Action: 'ecr:BatchGetImage', Condition: { Bool: { 'aws:SecureTransport': 'false' } } },
    ],
    ['to all but a role', { NotPrincipal: { AWS: `arn:aws:iam::${OWN}:role/x` }, Action: 'ecr:PutImage' }],
    ['all but an action', { Principal: '*', NotAction: 'ecr:BatchGetImage' }],
    ['an action that AWS adds later', { Principal: '*', Action: 'ecr:PullImage' }],
    ['to an identity without an account', { Principal: { AWS: 'AIDAEXAMPLE' }, Action: 'ecr:PutImage' }],
    ['to a federated identity', { Principal: { Federated: 'x' }, Action: 'ecr:PutImage' }],
    ['without a principal', { Action: 'ecr:PutImage' }],
    ['without an action', { Principal: '*' }],
  ])('%s', (_, statement) => {
    expect(reason({ Effect: 'Deny', Resource: '*', ...statement })).toMatch(/^it denies /);
    expect(
      reason([
        { Effect: 'Allow', Principal: '*', Action: '*' },
        { effect: 'deny', Resource: '*', ...statement },
      ]),
    ).toBeDefined();
  });
});

test.each<[string, unknown]>([
  ['has no statements', []],
  ['allows', { Effect: 'Allow', Principal: '*', Action: 'ecr:*' }],
  ['denies deletions', { Effect: 'Deny', Principal: '*', Action: ['ecr:DeleteRepository', 'ecr:BatchDeleteImage'] }],
  ['denies another account', { Effect: 'Deny', Principal: { AWS: `arn:aws:iam::${OTHER}:role/x` }, Action: 'ecr:*' }],
  ['denies a service', { Effect: 'Deny', Principal: { Service: 'lambda.amazonaws.com' }, Action: 'ecr:*' }],
])('a registry policy that %s does not lock its caller out', (_, statement) => {
  expect(reason(statement)).toBeUndefined();
});

test('adding a statement never makes a policy safe', () => {
  const statement = fc.record(
    {
      Effect: fc.constantFrom('Allow', 'Deny', 'deny'),
      Principal: fc.constantFrom('*', { AWS: OWN }, { AWS: OTHER }, { Service: 'x' }),
      Action: fc.subarray(['ecr:PutImage', 'ecr:DeleteRepository', 'ecr:*', 'ecr:PutRegistryPolicy']),
    },
    { requiredKeys: ['Effect'] },
  );
  fc.assert(
    fc.property(fc.array(statement), statement, (before, one) => {
      fc.pre(reason(before) !== undefined || reason([one]) !== undefined);
      expect(reason([...before, one])).toBeDefined();
    }),
  );
});
