import { readFileSync } from 'node:fs';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { Failure } from '../util/failure.ts';

/**
 * Makes this process trust the authorities in the file that `SSL_CERT_FILE` names, in addition to the default ones, for registries and for AWS.
 * Does nothing without the variable. Idempotent. INVALID for a file that cannot be read or holds no certificates.
 */
export function trustAuthorities(env: Readonly<Record<string, string | undefined>>): void {
  const path = env['SSL_CERT_FILE'];
  if (path === undefined || path === '') return;
  try {
    const found = readFileSync(path, 'utf8').match(/-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----/gs) ?? [];
    if (found.length === 0) throw new Error('no certificates');
    setDefaultCACertificates([...new Set([...getCACertificates('default'), ...found])]);
  } catch (cause) {
    throw new Failure('INVALID', `SSL_CERT_FILE: ${path} cannot be read, or holds no PEM certificates`, { cause });
  }
}
