import { describe, expect, test } from 'vitest';
import { foreignGrants } from '../../../worker/images/foreign-grants.ts';

const OWN = '111111111111';

function grants(statement: unknown): readonly string[] {
  return foreignGrants(JSON.stringify({ Version: '2012-10-17', Statement: statement }), [OWN]);
}

describe('a policy grants nothing to foreign accounts', () => {
  test.each<[string, unknown]>([
    ['without statements', []],
    ['to its own account', { Effect: 'Allow', Principal: { AWS: OWN } }],
    ['to a role of its own account', { Effect: 'Allow', Principal: { AWS: [`arn:aws:iam::${OWN}:role/x`] } }],
    [
      'to a provider of its own account',
      [{ Effect: 'Allow', Principal: { Federated: `arn:aws:iam::${OWN}:saml-provider/x` } }],
    ],
    ['to a service', [{ Effect: 'Allow', Principal: { Service: 'lambda.amazonaws.com' } }]],
    ['by a denial', [{ Effect: 'Deny', Principal: '*' }]],
  ])('%s', (_, statement) => {
    expect(grants(statement)).toEqual([]);
  });
});

describe('a policy grants access to', () => {
  test.each<[string, unknown, string]>([
    ['everybody', { Effect: 'Allow', Principal: '*' }, '*'],
    ['every account', [{ Effect: 'Allow', Principal: { AWS: [OWN, '*'] } }], '*'],
    ['everyone, under a condition', [{ Effect: 'Allow', Principal: '*', Condition: { Bool: {} } }], '*'],
    ['an account', [{ Effect: 'Allow', Principal: { AWS: '666666666666' } }], '666666666666'],
    [
      'a user of another account',
      [{ Effect: 'Allow', Principal: { AWS: 'arn:aws:iam::666666666666:user/x' } }],
      'arn:aws:iam::666666666666:user/x',
    ],
    [
      'a name that contains an account of ours',
      [{ Effect: 'Allow', Principal: { AWS: `arn:aws:iam::6:user/${OWN}` } }],
      `arn:aws:iam::6:user/${OWN}`,
    ],
    ['an identity without an account', [{ Effect: 'Allow', Principal: { AWS: 'AIDAEXAMPLE' } }], 'AIDAEXAMPLE'],
    [
      'an identity of a foreign provider',
      [{ Effect: 'Allow', Principal: { Federated: 'accounts.google.com' } }],
      'accounts.google.com',
    ],
    ['every service', [{ Effect: 'Allow', Principal: { Service: '*' } }], '*'],
    ['everyone except some', [{ Effect: 'Allow', NotPrincipal: { AWS: OWN } }], 'every principal but NotPrincipal'],
    ['everyone, in another case', [{ effect: 'allow', PRINCIPAL: { aws: '*' } }], '*'],
  ])('%s', (_, statement, named) => {
    expect(grants(statement)).toEqual([named]);
  });
});

test.each(['', 'null', '[]', '{"Statement":["x"]}', '{"Statement":[],"statement":[{}]}'])(
  'refuses %s, which is not a policy',
  (policy) => {
    expect(() => foreignGrants(policy, [OWN])).toThrow(expect.objectContaining({ code: 'INVALID' }));
  },
);
