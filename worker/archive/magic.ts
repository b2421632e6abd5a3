/** The first bytes of compressed layers. */
const MAGIC = {
  gzip: [0x1f, 0x8b],
  zstd: [0x28, 0xb5, 0x2f, 0xfd],
  xz: [0xfd, 0x37, 0x7a, 0x58],
  bzip2: [0x42, 0x5a, 0x68],
};
export const MAGIC_BYTES = 4;

/** The compression of the file whose first bytes are `start`; undefined for a plain one. */
export function compressionOf(start: Uint8Array): keyof typeof MAGIC | undefined {
  for (const [name, magic] of Object.entries(MAGIC)) {
    if (magic.every((byte, index) => start[index] === byte)) return name as keyof typeof MAGIC;
  }
  return undefined;
}
