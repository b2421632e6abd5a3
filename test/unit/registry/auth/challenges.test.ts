import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseChallenges } from '../../../../worker/registry/auth/challenges.ts';

describe('parseChallenges', () => {
  const challenge = (scheme: string, parameters: Readonly<Record<string, string>> = {}): object => ({
    scheme,
    parameters: new Map(Object.entries(parameters)),
  });

  test.each<[string, string, object[]]>([
    ['nothing', '', []],
    [
      'a bearer challenge with commas in a quoted string',
      'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:app:pull,push"',
      [
        challenge('bearer', {
          realm: 'https://auth.example/token',
          service: 'registry.example',
          scope: 'repository:app:pull,push',
        }),
      ],
    ],
    [
      'two schemes in one header',
      'Basic realm="a", Bearer realm="b",service="c"',
      [challenge('basic', { realm: 'a' }), challenge('bearer', { realm: 'b', service: 'c' })],
    ],
    [
      'a scheme alone before another',
      'Negotiate, Basic realm=x',
      [challenge('negotiate'), challenge('basic', { realm: 'x' })],
    ],
    ['a token68', 'NTLM TlRMTVNTUAAC==, Basic realm="x"', [challenge('ntlm'), challenge('basic', { realm: 'x' })]],
    ['escapes', String.raw`Basic realm="a \"b\" \\ c"`, [challenge('basic', { realm: String.raw`a "b" \ c` })]],
    ['names in any case', 'BEARER Realm="r", SERVICE="s"', [challenge('bearer', { realm: 'r', service: 's' })]],
    [
      'white space around',
      ' ,, Bearer  realm = "r" ,\tservice=s , ',
      [challenge('bearer', { realm: 'r', service: 's' })],
    ],
    [
      'an address that is not quoted',
      'Bearer realm=https://a/token',
      [challenge('bearer', { realm: 'https://a/token' })],
    ],
    ['an empty value', 'Bearer realm=""', [challenge('bearer', { realm: '' })]],
    ['the first of two values', 'Bearer realm="a",realm="b"', [challenge('bearer', { realm: 'a' })]],
    [
      'what can be read around unreadable text',
      'Basic realm="x", ???, Bearer realm="y"',
      [challenge('basic', { realm: 'x' }), challenge('bearer', { realm: 'y' })],
    ],
    ['a quote that never ends', 'Bearer realm="x', [challenge('bearer')]],
  ])('reads %s', (_, header, expected) => expect(parseChallenges(header)).toEqual(expected));

  test('reads back whatever is written as quoted strings', () => {
    const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,10}$/);
    const value = fc.string({ maxLength: 40 }).map((s) => s.replace(/[\r\n\0]/g, ''));
    const written = fc.uniqueArray(
      fc.record({ scheme: name, parameters: fc.dictionary(name, value, { minKeys: 1, noNullPrototype: true }) }),
      { maxLength: 4, selector: (c) => c.scheme },
    );
    fc.assert(
      fc.property(written, (challenges) => {
        const header = challenges
          .map(({ scheme, parameters }) => {
            const list = Object.entries(parameters).map(([key, v]) => `${key}="${v.replace(/[\\"]/g, '\\$&')}"`);
            return `${scheme} ${list.join(', ')}`;
          })
          .join(', ');
        expect(parseChallenges(header)).toEqual(
          challenges.map(({ scheme, parameters }) => ({ scheme, parameters: new Map(Object.entries(parameters)) })),
        );
      }),
    );
  });

  test('ends on any input', () => {
    fc.assert(fc.property(fc.string({ maxLength: 200 }), (text) => Array.isArray(parseChallenges(text))));
    fc.assert(fc.property(fc.stringMatching(/^[a-z=", \\]{0,200}$/), (text) => Array.isArray(parseChallenges(text))));
  });
});
