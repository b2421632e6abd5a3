import { isIP } from 'node:net';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';

/** Where a server listens. Port 0: the system chooses one. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** Reads `HOST:PORT`, `[::1]:PORT` or `:PORT` (every address of the machine). INVALID otherwise. */
export function parseListenAddress(text: string): ListenAddress {
  const [, bracketed, plain, digits = ''] = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]*)):([0-9]{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === '' || port > 65_535 || (bracketed !== undefined && isIP(bracketed) !== 6))
    throw new Failure('INVALID', `--listen ${quote(text)}: expected HOST:PORT, such as 127.0.0.1:5000 or 0.0.0.0:5000`);
  const host = bracketed ?? plain ?? '';
  return { host: host === '' ? '::' : host, port };
}

/** Whether only this machine reaches a server that listens on `host`. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/**
 * Whether a Host header names loopback. A page in a browser reaches a server on loopback under a name of its own (DNS rebinding), so where no
 * login is needed the name has to be one of the machine's.
 */
export function isLoopbackHost(header: string | undefined): boolean {
  const [, bracketed, plain] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:]*))(?::[0-9]{1,5})?$/.exec(header ?? '') ?? [];
  return isLoopback((bracketed ?? plain ?? '').toLowerCase());
}
