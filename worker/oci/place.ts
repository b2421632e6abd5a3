import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { isPattern, parseImagePattern, parseS3, withoutTransport, type ImagePattern } from './location.ts';
import { withoutSecrets } from './reference.ts';

/** Where objects are: a prefix of a bucket, or a folder. */
export type ObjectRoot =
  /** `prefix` is empty or ends in `/`. */
  | { readonly bucket: string; readonly prefix: string }
  /** Keys begin below the folder. */
  | { readonly folder: string; readonly prefix: '' };

/** Where many images are: in a registry, in archives below a prefix, or in a store. */
export type Place =
  | { readonly kind: 'registry'; readonly text: string; readonly pattern: ImagePattern }
  | { readonly kind: 'archives'; readonly text: string; readonly root: ObjectRoot }
  | { readonly kind: 'store'; readonly text: string; readonly root: ObjectRoot };

/**
 * Reads a place: `[docker://]HOST`, `HOST/pattern[:tags]`, `s3://bucket/prefix/`, a folder of archives (`oci-archive:folder/`, or a path that
 * begins with `/`, `./` or `../`; both end in `/`), or a store (`store:s3://bucket/prefix/`, `store:folder`, `store:file.tar`). A host alone stands for all its
 * repositories. INVALID otherwise.
 */
export function parsePlace(text: string): Place {
  if (text.startsWith('store:'))
    return { kind: 'store', text, root: parseStoreRoot(text.slice('store:'.length), text) };
  if (text.startsWith('s3://')) {
    const { bucket, key } = parseS3(text);
    if (key === '' || key.endsWith('/')) return { kind: 'archives', text, root: { bucket, prefix: key } };
    throw invalid(text, 'a prefix of archives ends in "/"');
  }
  const folder = text.startsWith('oci-archive:') ? text.slice('oci-archive:'.length) : text;
  if (folder !== text || /^\.{0,2}\//.test(text)) {
    if (folder.endsWith('/')) return { kind: 'archives', text, root: { folder, prefix: '' } };
    throw invalid(text, 'a folder of archives ends in "/"');
  }
  const bare = withoutTransport(text).replace(/\/$/, '');
  const host = bare.split('/', 1)[0] ?? '';
  if (!/[.:]/.test(host) && host !== 'localhost')
    throw invalid(text, 'expected HOST, HOST/repositories*, s3://bucket/prefix/, ./folder/ or store:PLACE');
  return { kind: 'registry', text, pattern: parseImagePattern(host === bare ? `${host}/*` : text) };
}

/** Whether the place of a store is one file: an uncompressed tar. */
export function isOneFile(path: string): boolean {
  return path.endsWith('.tar');
}

/** Whether `text` names a place of many images where one image could be named too: a pattern, a host alone, a prefix, or a whole store. */
export function isPlace(text: string): boolean {
  if (text.startsWith('store:')) return !text.slice('store:'.length).replace(/^s3:/, '').includes(':');
  if (text.startsWith('s3://')) return text.endsWith('/') || !text.slice('s3://'.length).includes('/');
  if (/^(?:oci|docker-archive):/.test(text)) return false;
  if (text.startsWith('oci-archive:') || /^\.{0,2}\//.test(text)) return text.endsWith('/');
  const bare = withoutTransport(text);
  return isPattern(bare) || isHostAlone(bare);
}

/** Whether `text` is the host of a registry, with a dot or a port, and names no repository. One `/` may follow it. */
export function isHostAlone(text: string): boolean {
  return /^(?:[a-z0-9-]+(?:\.[a-z0-9-]+)+|localhost(?=:))(?::[0-9]{1,5})?\/?$/i.test(text);
}

/** Reads what follows `store:`: `s3://bucket[/prefix/]`, or the path of a folder. INVALID otherwise. */
export function parseStoreRoot(root: string, text: string): ObjectRoot {
  if (root.startsWith('s3://')) {
    const { bucket, key } = parseS3(root);
    return { bucket, prefix: key === '' || key.endsWith('/') ? key : `${key}/` };
  }
  // a mistyped URL, such as s3:/bucket, would be a folder of that name
  if (root === '' || root === '-' || /^[a-z][a-z0-9+.-]+:\//i.test(root))
    throw invalid(text, 'a store is store:s3://bucket/prefix/ or store:folder');
  return { folder: root, prefix: '' };
}

function invalid(text: string, why: string): Failure {
  return new Failure('INVALID', `${quote(withoutSecrets(text))} is not a place of images: ${why}`);
}
