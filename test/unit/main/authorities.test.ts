import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterEach, test } from 'vitest';
import { trustAuthorities } from '../../../worker/main/authorities.ts';

const before = getCACertificates('default');
afterEach(() => setDefaultCACertificates(before));

test('adds the authorities of SSL_CERT_FILE to the default ones', () => {
  const path = 'test/fixtures/self-signed.pem';
  trustAuthorities({ SSL_CERT_FILE: path });
  const now = getCACertificates('default').map((pem) => pem.replace(/\s/g, ''));
  const [added = ''] = /-----BEGIN CERT.*?END CERTIFICATE-----/s.exec(readFileSync(path, 'utf8')) ?? [];
  assert.ok(now.includes(added.replace(/\s/g, '')));
  assert.ok(now.length > 100);
});

test('changes nothing without SSL_CERT_FILE', () => {
  const now = getCACertificates('default').length;
  trustAuthorities({});
  trustAuthorities({ SSL_CERT_FILE: '' });
  assert.equal(getCACertificates('default').length, now);
});

test('refuses a file that is missing or holds no certificates, naming the variable', () => {
  for (const path of ['/does/not/exist.pem', 'package.json'])
    assert.throws(
      () => trustAuthorities({ SSL_CERT_FILE: path }),
      /^Failure: SSL_CERT_FILE: .* cannot be read, or holds no PEM certificates/,
    );
});
