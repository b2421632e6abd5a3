import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { parseS3 } from './location.ts';

/** Where objects are: all of a bucket whose keys start with `prefix` (empty, or ending in `/`), or the files below a folder. */
export type ObjectPlace =
  | { readonly transport: 's3'; readonly bucket: string; readonly prefix: string }
  | { readonly transport: 'folder'; readonly path: string };

/** Reads `s3://bucket/prefix/`, of which the last slash may be left out, or the path of a folder. INVALID otherwise. */
export function parseObjectPlace(text: string): ObjectPlace {
  if (text.startsWith('s3://')) {
    const { bucket, key } = parseS3(text);
    return { transport: 's3', bucket, prefix: key === '' || key.endsWith('/') ? key : `${key}/` };
  }
  const other =
    /^([a-z][a-z0-9+.-]*):(?:\/\/|$)/i.exec(text)?.[0] ?? /^(?:docker|oci|oci-archive|docker-archive):/.exec(text)?.[0];
  if (text === '' || other !== undefined)
    throw new Failure('INVALID', `${quote(text)} is not a place of objects: expected s3://bucket/prefix/ or a folder`);
  return { transport: 'folder', path: text };
}

/** What `parseObjectPlace` reads back to the same value. */
export function formatObjectPlace(place: ObjectPlace): string {
  return place.transport === 's3' ? `s3://${place.bucket}/${place.prefix}` : place.path;
}
