import { describe, expect, test } from 'vitest';
import { keepSecret, withoutOwnSecrets } from '../../../worker/util/own-secrets.ts';

describe('cuts out a secret that this process was given', () => {
  test.each<[string, string, string, string]>([
    ['as it is', 'own/secret+1', 'sent own/secret+1 and own/secret+1.', 'sent … and ….'],
    ['as URLs write it', 'own s€cret/2', 'GET /x?y=own%20s%E2%82%ACcret%2F2', 'GET /x?y=…'],
    ['as forms write it', 'own secret 3', 'x=own+secret+3&y', 'x=…&y'],
    ['as JSON writes it', 'own"secret"4', '{"x":"own\\"secret\\"4"}', '{"x":"…"}'],
    ['in the middle of a word', 'own-secret-5', 'xown-secret-5x', 'x…x'],
    ['where a short one stands alone', 'p.w+6', '"p.w+6" is no p.w+67', '"…" is no p.w+67'],
  ])('%s', (_, secret, text, cut) => {
    keepSecret(secret);
    expect(withoutOwnSecrets(text)).toBe(cut);
  });
});

test('a secret with half of a surrogate pair, which no URL can write, is cut out as well', () => {
  keepSecret('own-\ud800-secret-7');
  expect(withoutOwnSecrets('sent own-\ud800-secret-7')).toBe('sent …');
});

test('a secret of three characters stays: it is part of too many words', () => {
  keepSecret('app');
  expect(withoutOwnSecrets('product/app')).toBe('product/app');
});

test('keeps the newest secrets and forgets the oldest, so that rotated tokens do not fill the memory', () => {
  for (let i = 0; i < 20_000; i++) keepSecret(`rotated-token-${i}`);
  expect(withoutOwnSecrets('rotated-token-19999')).toBe('…');
  expect(withoutOwnSecrets('rotated-token-0')).toBe('rotated-token-0');
});
