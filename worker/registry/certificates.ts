import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { getCACertificates } from 'node:tls';
import { Failure } from '../util/failure.ts';
import type { TlsSettings } from './transport/wire.ts';

export interface CertificateOptions {
  /** `certs.d` folders; the first that has a folder for the host decides. Folders that do not exist or may not be read are skipped. */
  readonly folders: readonly string[];
  /** Whether certificates of servers are checked. Default true. */
  readonly verify?: boolean | undefined;
}

/**
 * The TLS settings for the registry at `host`, from `certs.d/HOST`: authorities from `*.crt`, client certificates from `*.cert` and `*.key`
 * (https://github.com/containers/image/blob/main/docs/containers-certs.d.5.md). Empty where no folder is for the host. INVALID for a file that
 * cannot be read, and for a client certificate without its key or the reverse.
 */
export async function findCertificates(host: string, options: CertificateOptions): Promise<TlsSettings> {
  const unchecked = options.verify === false ? { rejectUnauthorized: false } : {};
  for (const folder of options.folders) {
    for (const name of new Set([host, host.toLowerCase()])) {
      const path = join(folder, name);
      const files = await filesIn(path);
      if (files !== undefined) return { ...(await readFolder(path, files)), ...unchecked };
    }
  }
  return unchecked;
}

async function readFolder(path: string, files: readonly string[]): Promise<TlsSettings> {
  const named = (ending: string): readonly string[] => files.filter((file) => file.endsWith(ending)).sort();
  const stems = (ending: string): readonly string[] => named(ending).map((file) => file.slice(0, -ending.length));
  const [certificates, keys] = [stems('.cert'), stems('.key')];
  for (const stem of certificates) if (!keys.includes(stem)) throw unpaired(path, `${stem}.cert`, `${stem}.key`);
  for (const stem of keys) if (!certificates.includes(stem)) throw unpaired(path, `${stem}.key`, `${stem}.cert`);
  const read = async (names: readonly string[]): Promise<string[]> =>
    Promise.all(names.map(async (name) => readCertificate(join(path, name))));
  const authorities = await read(named('.crt'));
  return {
    // `ca` replaces the default authorities
    ...(authorities.length === 0 ? {} : { ca: [...getCACertificates('default'), ...authorities] }),
    ...(certificates.length === 0
      ? {}
      : { cert: await read(named('.cert')), key: await read(certificates.map((stem) => `${stem}.key`)) }),
  };
}

async function filesIn(path: string): Promise<readonly string[] | undefined> {
  try {
    return await readdir(path);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && /^(?:ENOENT|ENOTDIR|EACCES)$/.test(String(cause.code)))
      return undefined;
    throw new Failure('INVALID', `read certificates: ${path} cannot be read`, { cause });
  }
}

async function readCertificate(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new Failure('INVALID', `read certificates: ${path} cannot be read`, { cause });
  }
}

function unpaired(path: string, there: string, missing: string): Failure {
  return new Failure('INVALID', `read certificates: ${path} has ${there}, but not ${missing}`);
}
