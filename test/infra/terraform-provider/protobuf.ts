// The part of protocol buffers that the protocol of plugins needs: fields of numbers, bytes and messages.
// https://protobuf.dev/programming-guides/encoding/

type Field = number | boolean | string | Buffer | undefined;

/** A message: its fields by number, each with one value or several. */
export function message(fields: Readonly<Record<number, Field | readonly Field[]>>): Buffer {
  const parts: Buffer[] = [];
  for (const [number, given] of Object.entries(fields))
    for (const value of Array.isArray(given) ? given : [given]) {
      if (value === undefined) continue;
      if (typeof value === 'number' || typeof value === 'boolean') {
        parts.push(varint(Number(number) << 3), varint(Number(value)));
        continue;
      }
      const bytes = Buffer.from(value);
      parts.push(varint((Number(number) << 3) | 2), varint(bytes.length), bytes);
    }
  return Buffer.concat(parts);
}

/** The fields of bytes and messages: the last one of each number. */
export function fieldsOf(bytes: Buffer): ReadonlyMap<number, Buffer> {
  const fields = new Map<number, Buffer>();
  let at = 0;
  const number = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] ?? 0;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const tag = number();
    if ((tag & 7) === 0) {
      number();
      continue;
    }
    if ((tag & 7) !== 2) throw new Error(`wire type ${tag & 7} is not known here`);
    const length = number();
    fields.set(tag >> 3, bytes.subarray(at, at + length));
    at += length;
  }
  return fields;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 0x80)) {
    if (rest < 0x80) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 0x80) | 0x80);
  }
}
