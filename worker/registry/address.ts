import { BlockList, isIP } from 'node:net';

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
export function mayLeadTo(own: AddressKind | undefined, to: AddressKind | undefined): boolean {
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
