// The command lines by which each tool does the same: copies an image from a registry into another, into a file, and back into a registry.
import { isInstalled } from '../support/interop-process.ts';
import type { Command } from './measure.ts';

/** Plain HTTP or TLS. With TLS every tool trusts the authority that SSL_CERT_FILE names. */
export type Security = 'plain' | 'tls';

export interface Tool {
  readonly name: string;
  /** Whether aims compare with it. skopeo is slower in every case, and oras does not hash what it mirrors. */
  readonly isRival: boolean;
  readonly mirror?: (from: string, to: string) => Omit<Command, 'env'>;
  /** With the referrers of the image, where the tool knows them. */
  readonly mirrorSigned?: (from: string, to: string) => Omit<Command, 'env'>;
  readonly archive?: (from: string, file: string) => Omit<Command, 'env'>;
  readonly restore?: (file: string, to: string) => Omit<Command, 'env'>;
}

/** The tools that this machine has, transship first. */
export function installedTools(security: Security): readonly Tool[] {
  return [transship(), crane(), regctl(security), oras(security), skopeo(security)].filter(
    ({ name }) => name === 'transship' || isInstalled(name),
  );
}

/** The built program, as a package has it, with its defaults: referrers of an image are copied too. */
export function transshipCommand(...args: readonly string[]): Omit<Command, 'env'> {
  return { command: process.execPath, args: ['dist/cli.js', ...args, '--quiet'] };
}

function transship(): Tool {
  const command = transshipCommand;
  return {
    name: 'transship',
    isRival: false,
    mirror: (from, to) => command('copy', from, `docker://${to}`),
    mirrorSigned: (from, to) => command('copy', from, `docker://${to}`),
    archive: (from, file) => command('backup', from, `oci-archive:${file}`),
    restore: (file, to) => command('restore', `oci-archive:${file}`, `docker://${to}`),
  };
}

/** Tries TLS first for loopback, then plain HTTP. */
function crane(): Tool {
  const command = (...args: string[]) => ({ command: 'crane', args });
  return {
    name: 'crane',
    isRival: true,
    mirror: (from, to) => command('copy', from, to),
    archive: (from, file) => command('pull', from, file),
    restore: (file, to) => command('push', file, to),
  };
}

function regctl(security: Security): Tool {
  const tls = security === 'tls' ? 'enabled' : 'disabled';
  const command = (references: readonly string[], ...args: string[]) => {
    const hosts = references.flatMap((reference) => ['--host', `reg=${hostOf(reference)},tls=${tls}`]);
    return { command: 'regctl', args: [...hosts, ...args] };
  };
  return {
    name: 'regctl',
    isRival: true,
    mirror: (from, to) => command([from, to], 'image', 'copy', from, to),
    mirrorSigned: (from, to) => command([from, to], 'image', 'copy', '--referrers', '--digest-tags', from, to),
    archive: (from, file) => command([from], 'image', 'export', from, file),
    restore: (file, to) => command([to], 'image', 'import', to, file),
  };
}

function oras(security: Security): Tool {
  const ends = security === 'tls' ? [] : ['--from-plain-http', '--to-plain-http'];
  const end = security === 'tls' ? [] : ['--plain-http'];
  const command = (...args: string[]) => ({ command: 'oras', args: [...args, '--no-tty'] });
  return {
    name: 'oras',
    isRival: false,
    mirror: (from, to) => command('cp', ...ends, from, to),
    mirrorSigned: (from, to) => command('cp', '-r', ...ends, from, to),
    archive: (from, file) => command('backup', ...end, '--output', file, from),
    restore: (file, to) => command('restore', ...end, '--input', file, to),
  };
}

function skopeo(security: Security): Tool {
  const verify = String(security === 'tls');
  const command = (...args: string[]) => ({
    command: 'skopeo',
    args: ['--insecure-policy', 'copy', '--all', '--quiet', ...args],
  });
  const [source, target] = [`--src-tls-verify=${verify}`, `--dest-tls-verify=${verify}`];
  return {
    name: 'skopeo',
    isRival: false,
    mirror: (from, to) => command(source, target, `docker://${from}`, `docker://${to}`),
    archive: (from, file) => command(source, `docker://${from}`, `oci-archive:${file}:bench`),
    restore: (file, to) => command(target, `oci-archive:${file}`, `docker://${to}`),
  };
}

function hostOf(reference: string): string {
  return reference.slice(0, reference.indexOf('/'));
}
