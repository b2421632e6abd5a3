import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { quote, redacted } from '../../../worker/util/text.ts';

test.each<[unknown, string]>([
  ['a.b/c', '"a.b/c"'],
  ['say "x"\n', '"say \\"x\\"\\n"'],
  ['\u001b[2J\u009b2J\u202e\u2028\u{e0041}', '"\\u001b[2J\\u{9b}2J\\u{202e}\\u{2028}\\u{e0041}"'],
  ['Zürich 東京 🐋', '"Zürich 東京 🐋"'],
  ['x'.repeat(201), `"${'x'.repeat(200)}…"`],
  [undefined, 'undefined'],
  [null, 'null'],
  [1.5, '1.5'],
  [10n, '10'],
  [true, 'true'],
  [Symbol('x'), 'Symbol(x)'],
  [[1, 2], 'a list'],
  [{ toString: null }, 'an object'],
  [Object.create(null), 'an object'],
  [() => 1, 'a function'],
])('shows any value (%#)', (value, shown) => {
  expect(quote(value)).toBe(shown);
});

test('is one short line without anything that a terminal would obey, for every text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (text) => {
      const shown = quote(text);
      expect(shown).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u);
      expect(shown.length).toBeLessThan(200 * 12);
    }),
  );
});

const DIGEST = `sha256:${'0'.repeat(64)}`;

test.each([
  ['https://ann:secret@host.example/x', 'https://…@host.example/x'],
  ['GET https://host.example/x?sig=secret failed', 'GET https://host.example/x failed'],
  [
    'docker://ann:secret@host.example/x:1 → docker://b.example/x:1',
    'docker://…@host.example/x:1 → docker://b.example/x:1',
  ],
  ['authorization: Bearer abcdefgh.secret', 'authorization: Bearer …'],
  ['/blob?X-Amz-Signature=abc&X-Amz-Security-Token=d%2Fe&x=1', '/blob?X-Amz-Signature=…&X-Amz-Security-Token=…&x=1'],
  ['blob?sv=2&sig=abc%3D failed', 'blob?sv=2&sig=… failed'],
  ['x-amz-signature=abc, Signature=def; token=ghi', 'x-amz-signature=…, Signature=…; token=…'],
  [
    'grant_type=x&access_token=a.b&refresh_token=c&password=d',
    'grant_type=x&access_token=…&refresh_token=…&password=…',
  ],
  ['{"user":"ann","password": "a\\"b","access_token":"c"}', '{"user":"ann","password": "…","access_token":"…"}'],
])('%s loses its secrets', (text, shown) => {
  expect(redacted(text)).toBe(shown);
});

test.each([
  `docker://alpine:3.1@${DIGEST}`,
  `docker://host.example:5000/app@${DIGEST} → s3://bucket/a@b?c.tar`,
  'see https://host.example/docs',
  'no basic auth credentials; the token is invalid: design=1, a secret is needed',
])('%s stays unchanged', (text) => {
  expect(redacted(text)).toBe(text);
});

test('a long text takes no longer for its form', () => {
  const text = 'a.'.repeat(500_000);
  const begun = process.threadCpuUsage();
  expect(redacted(text)).toBe(text);
  expect(process.threadCpuUsage(begun).user).toBeLessThan(2_000_000);
});
