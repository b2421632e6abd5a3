// MessagePack, as Terraform encodes values: https://github.com/msgpack/msgpack/blob/master/spec.md
// https://github.com/hashicorp/terraform/blob/main/docs/plugin-protocol/object-wire-format.md

/** A value that is known only after an apply. */
export const UNKNOWN = Symbol('unknown');

export function decode(bytes: Buffer): unknown {
  let at = 0;
  const take = (length: number): Buffer => bytes.subarray(at, (at += length));
  const unsigned = (length: number): number => take(length).readUIntBE(0, length);
  const list = (length: number): unknown[] => Array.from({ length }, value);
  const map = (length: number): unknown =>
    Object.fromEntries(Array.from({ length }, () => [String(value()), value()] as const));
  const extension = (length: number): unknown => {
    take(1 + length);
    return UNKNOWN;
  };

  function value(): unknown {
    const tag = unsigned(1);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return map(tag & 0x0f);
    if (tag < 0xa0) return list(tag & 0x0f);
    if (tag < 0xc0) return take(tag & 0x1f).toString();
    if (tag >= 0xe0) return tag - 0x1_00;
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc7:
        return extension(unsigned(1));
      case 0xc8:
        return extension(unsigned(2));
      case 0xcb:
        return take(8).readDoubleBE();
      case 0xcc:
        return unsigned(1);
      case 0xcd:
        return unsigned(2);
      case 0xce:
        return unsigned(4);
      case 0xd4:
        return extension(1);
      case 0xd5:
        return extension(2);
      case 0xd6:
        return extension(4);
      case 0xd9:
        return take(unsigned(1)).toString();
      case 0xda:
        return take(unsigned(2)).toString();
      case 0xdb:
        return take(unsigned(4)).toString();
      case 0xdc:
        return list(unsigned(2));
      case 0xde:
        return map(unsigned(2));
      default:
        throw new Error(`a value of kind 0x${tag.toString(16)} is not known here`);
    }
  }
  return value();
}

export function encode(value: unknown): Buffer {
  if (value === UNKNOWN) return Buffer.from([0xd4, 0, 0]);
  if (value === null || value === undefined) return Buffer.from([0xc0]);
  if (typeof value === 'boolean') return Buffer.from([value ? 0xc3 : 0xc2]);
  if (typeof value === 'number') {
    const double = Buffer.alloc(9);
    double[0] = 0xcb;
    double.writeDoubleBE(value, 1);
    return double;
  }
  if (typeof value === 'string') {
    const text = Buffer.from(value);
    return Buffer.concat([counted(0xdb, text.length), text]);
  }
  if (Array.isArray(value)) return Buffer.concat([counted(0xdd, value.length), ...value.map(encode)]);
  const members = Object.entries(Object(value));
  return Buffer.concat([
    counted(0xdf, members.length),
    ...members.flatMap(([name, member]) => [encode(name), encode(member)]),
  ]);
}

function counted(tag: number, length: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes[0] = tag;
  bytes.writeUInt32BE(length, 1);
  return bytes;
}
