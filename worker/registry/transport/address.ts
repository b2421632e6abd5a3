import type { LookupAddress, LookupOptions } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';

/** The kind of an IP address: `metadata` includes every link-local address, since clouds serve credentials there. */
export type AddressKind = 'public' | 'private' | 'loopback' | 'metadata';

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addSubnet('0.0.0.0', 8, 'ipv4'); // connects to this machine
LOOPBACK.addAddress('::1', 'ipv6');
LOOPBACK.addAddress('::', 'ipv6');

// https://www.iana.org/assignments/iana-ipv4-special-registry, …/iana-ipv6-special-registry
const PRIVATE = new BlockList();
PRIVATE.addSubnet('10.0.0.0', 8, 'ipv4');
PRIVATE.addSubnet('172.16.0.0', 12, 'ipv4');
PRIVATE.addSubnet('192.168.0.0', 16, 'ipv4');
PRIVATE.addSubnet('100.64.0.0', 10, 'ipv4');
PRIVATE.addSubnet('fc00::', 7, 'ipv6');

const METADATA = new BlockList();
METADATA.addSubnet('169.254.0.0', 16, 'ipv4');
METADATA.addSubnet('fe80::', 10, 'ipv6');
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
METADATA.addAddress('fd00:ec2::254', 'ipv6');
METADATA.addAddress('fd00:ec2::23', 'ipv6');
// https://docs.cloud.google.com/compute/docs/metadata/querying-metadata
METADATA.addAddress('fd20:ce::254', 'ipv6');
// https://www.iana.org/assignments/iana-ipv4-special-registry: IETF Protocol Assignments, where Oracle's classic cloud keeps them
METADATA.addAddress('192.0.0.192', 'ipv4');
// https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
METADATA.addAddress('168.63.129.16', 'ipv4');
// https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
METADATA.addAddress('100.100.100.200', 'ipv4');

/** The kind of an IP address, in brackets or not, or of a name that can only be this machine; undefined for every other name. */
export function addressKind(host: string): AddressKind | undefined {
  const name = host.replace(/^\[|\]$/g, '').replace(/%.*$/, '');
  const family = isIP(name);
  if (family === 0) return /^(?:.+\.)?localhost\.?$/i.test(name) ? 'loopback' : undefined;
  if (family === 4) return kindOf(name, 'ipv4');
  const kinds = new Set([kindOf(name, 'ipv6'), ...embeddedIpv4(name).map((address) => kindOf(address, 'ipv4'))]);
  // if it can be read in several ways, the most dangerous one counts
  return SEVERITY.find((kind) => kinds.has(kind)) ?? 'public';
}

const SEVERITY: readonly AddressKind[] = ['metadata', 'loopback', 'private'];

function kindOf(address: string, family: 'ipv4' | 'ipv6'): AddressKind {
  if (METADATA.check(address, family)) return 'metadata';
  if (LOOPBACK.check(address, family)) return 'loopback';
  return PRIVATE.check(address, family) ? 'private' : 'public';
}

/**
 * The IPv4 addresses that an IPv6 address may lead to by translation: mapped, compatible (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052,
 * RFC 8215) and 6to4 (RFC 3056).
 */
function embeddedIpv4(address: string): readonly string[] {
  const groups = groupsOf(address);
  const at = (first: number): string =>
    [groups[first] ?? 0, groups[first + 1] ?? 0].flatMap((group) => [group >> 8, group & 255]).join('.');
  const begins = (...prefix: readonly number[]): boolean => prefix.every((group, i) => groups[i] === group);
  if (begins(0x2002)) return [at(1)];
  if (begins(0x64, 0xff9b, 1)) {
    // a network may use any prefix within this one: here the longest, and the shortest, whose address has a gap of 8 bits
    const [high = 0, middle = 0, low = 0] = groups.slice(3, 6);
    const shortest = [high >> 8, high & 255, middle & 255, low >> 8].join('.');
    return [at(6), shortest].filter((found) => found !== '0.0.0.0');
  }
  const isEmbedded =
    begins(0x64, 0xff9b, 0, 0, 0, 0) ||
    begins(0, 0, 0, 0, 0xffff, 0) ||
    begins(0, 0, 0, 0, 0, 0xffff) ||
    (begins(0, 0, 0, 0, 0, 0) && (groups[6] !== 0 || (groups[7] ?? 0) > 1));
  return isEmbedded ? [at(6)] : [];
}

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): readonly number[] {
  const hex = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...bytes: readonly string[]) => {
    const [first = 0, second = 0, third = 0, fourth = 0] = bytes.slice(0, 4).map(Number);
    return `${((first << 8) | second).toString(16)}:${((third << 8) | fourth).toString(16)}`;
  });
  const [before = [], after = []] = hex.split('::').map((half) =>
    half
      .split(':')
      .filter((group) => group !== '')
      .map((group) => parseInt(group, 16)),
  );
  return [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
}

/**
 * Whether a server whose own address is of kind `own` may send us to an address of kind `to`: never to where credentials are kept, and
 * further inside only from inside. Undefined stands for a name that is not resolved yet.
 */
function mayLeadTo(own: AddressKind | undefined, to: AddressKind | undefined): boolean {
  switch (to) {
    case undefined:
    case 'public':
      return true;
    case 'private':
      return own === 'private' || own === 'loopback';
    case 'loopback':
      return own === 'loopback';
    case 'metadata':
      return false;
    default:
      return to satisfies never;
  }
}

/** The code of the error of a lookup that leads where it must not. */
export const ADDRESS_REFUSED = 'ADDRESS_REFUSED';

type LookupAll = (
  hostname: string,
  options: LookupOptions & { readonly all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/** Keeps a server from sending us where it has no business. */
export interface Guard {
  /** The kind of the address that `host` is, when it must not lead there. Undefined for a name, which has an address only once it is looked up. */
  readonly refuses: (host: string) => AddressKind | undefined;
  /**
   * Fails with ADDRESS_REFUSED for a name that has such an address. For the server's own name, metadata addresses are left out, and it fails
   * only where no other is left. Private addresses pass, unlike when a location names one directly: in a VPC with endpoints, the public names
   * of S3 have them.
   */
  readonly lookup: LookupFunction;
}

/** The guard of connections to the server named `own`, and to where it leads. */
export function guardOf(own: string, lookup: LookupAll): Guard {
  let ownKind = addressKind(own);
  return {
    refuses: (host) => {
      const kind = addressKind(host);
      return mayLeadTo(ownKind, kind) ? undefined : kind;
    },
    lookup: (hostname, options, callback) => {
      lookup(hostname, { ...options, all: true }, (error, addresses) => {
        if (error !== null) return callback(error, '');
        // the user chose the registry, but its name may resolve to another address later: https://en.wikipedia.org/wiki/DNS_rebinding
        const allowed =
          hostname === own ? addresses.filter(({ address }) => addressKind(address) !== 'metadata') : addresses;
        const kinds = (allowed.length > 0 ? allowed : addresses).map(({ address }) => addressKind(address));
        const refused = kinds.find((kind) =>
          hostname === own ? kind === 'metadata' : kind !== 'private' && !mayLeadTo(ownKind, kind),
        );
        if (refused !== undefined) {
          const refusal = new Error(`${hostname}, which has a ${refused} address`);
          return callback(Object.assign(refusal, { code: ADDRESS_REFUSED }), '');
        }
        if (hostname === own) ownKind ??= kinds[0];
        if (options.all === true) return callback(null, allowed);
        const [first] = allowed;
        return callback(null, first?.address ?? '', first?.family);
      });
    },
  };
}
