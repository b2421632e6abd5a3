import { pack, type Header } from 'tar-stream';

export interface TarFile {
  readonly name: string;
  readonly content?: Uint8Array | string;
  /** Default: a file. */
  readonly type?: Header['type'];
  /** The target of a link. */
  readonly target?: string;
}

/** A tar as other tools write it, by tar-stream. */
export async function makeTar(files: readonly TarFile[]): Promise<Buffer> {
  const tar = pack();
  for (const { name, content = '', type = 'file', target } of files) {
    const header = {
      name,
      type,
      mtime: new Date(1_700_000_000_000),
      ...(target === undefined ? {} : { linkname: target }),
    };
    tar.entry(header, Buffer.from(content));
  }
  tar.finalize();
  return Buffer.concat((await Array.fromAsync(tar)) as Uint8Array[]);
}
