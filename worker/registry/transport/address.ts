import type { LookupAddress, LookupOptions } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';

/** What an IP address is good for: `metadata` stands for every link-local address too, behind which clouds keep credentials. */
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
// the same by way of NAT64 and 6to4
METADATA.addSubnet('64:ff9b::a9fe:0', 112, 'ipv6');
METADATA.addSubnet('2002:a9fe::', 32, 'ipv6');
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
METADATA.addAddress('fd00:ec2::254', 'ipv6');
METADATA.addAddress('fd00:ec2::23', 'ipv6');
// https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
METADATA.addAddress('168.63.129.16', 'ipv4');
// https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
METADATA.addAddress('100.100.100.200', 'ipv4');

/** The kind of an IP address, in brackets or not, or of a name that can only be this machine; undefined for every other name. */
export function addressKind(host: string): AddressKind | undefined {
  const name = host.replace(/^\[|\]$/g, '').replace(/%.*$/, '');
  const family = isIP(name);
  if (family === 0) return /^(?:.+\.)?localhost\.?$/i.test(name) ? 'loopback' : undefined;
  const type = family === 4 ? 'ipv4' : 'ipv6';
  if (METADATA.check(name, type)) return 'metadata';
  if (LOOPBACK.check(name, type)) return 'loopback';
  return PRIVATE.check(name, type) ? 'private' : 'public';
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
  /** The kind of the address that `host` is, when it must not lead there. A name has none until it is looked up. */
  readonly refuses: (host: string) => AddressKind | undefined;
  /**
   * Fails with ADDRESS_REFUSED for names that have such an address. Private ones pass, unlike when they are given as an address: in a VPC
   * with endpoints, the public names of S3 have them.
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
        const kinds = addresses.map(({ address }) => addressKind(address));
        const refused = kinds.find((kind) => kind !== 'private' && !mayLeadTo(ownKind, kind));
        if (hostname === own) ownKind ??= kinds[0];
        else if (refused !== undefined) {
          const refusal = new Error(`${hostname}, which has a ${refused} address`);
          return callback(Object.assign(refusal, { code: ADDRESS_REFUSED }), '');
        }
        if (options.all === true) return callback(null, addresses);
        const [first] = addresses;
        return callback(null, first?.address ?? '', first?.family);
      });
    },
  };
}
