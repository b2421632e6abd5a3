import { expect, test } from 'vitest';
import { redacted } from '../../../worker/util/redact.ts';

const DIGEST = `sha256:${'0'.repeat(64)}`;

test.each([
  ['https://ann:secret@host.example/x', 'https://…@host.example/x'],
  ['GET https://host.example/x?sig=secret failed', 'GET https://host.example/x failed'],
  [
    'docker://ann:secret@host.example/x:1 → docker://b.example/x:1',
    'docker://…@host.example/x:1 → docker://b.example/x:1',
  ],
  ['authorization: Bearer abcdefgh.secret', 'authorization: Bearer …'],
])('%s is told without its secrets', (text, told) => {
  expect(redacted(text)).toBe(told);
});

test.each([
  `docker://alpine:3.1@${DIGEST}`,
  `docker://host.example:5000/app@${DIGEST} → s3://bucket/a@b?c.tar`,
  'see https://host.example/docs',
])('%s stays as it is', (text) => {
  expect(redacted(text)).toBe(text);
});

test('a long text takes no longer for its form', () => {
  const text = 'a.'.repeat(500_000);
  const startedMs = performance.now();
  expect(redacted(text)).toBe(text);
  expect(performance.now() - startedMs).toBeLessThan(2000);
});
