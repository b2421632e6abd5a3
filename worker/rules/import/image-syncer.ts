import { isTag } from '../../oci/reference.ts';
import { isFailure } from '../../util/failure.ts';
import { isRecord } from '../../util/record.ts';
import { goExpression } from './expressions.ts';
import { Findings, PLAIN, shown, shownKey } from './mapping.ts';
import { BY_DIGEST, INSECURE, NOT_AN_IMAGE, nameOf, plainName, readImage, type NamedImage } from './references.ts';
import type { FileValue, Shape } from './source-file.ts';

/** Whether it looks like a file of images, or the older file of both, of image-syncer. */
export function isImageSyncer(value: FileValue): boolean {
  if (!isRecord(value)) return false;
  const images = imagesOf(value);
  const entries = Object.entries(isRecord(images) ? images : {});
  return (
    entries.length > 0 &&
    entries.every(([source, to]) => /[/:]|^[a-z0-9._-]+$/.test(source) && (typeof to === 'string' || Array.isArray(to)))
  );
}

/** Whether it looks like a file of credentials of image-syncer. */
export function isImageSyncerAuth(value: FileValue): boolean {
  const entries = isRecord(value) ? Object.values(value) : [];
  return (
    entries.length > 0 &&
    entries.every((one) => isRecord(one) && ('username' in one || 'password' in one || 'insecure' in one))
  );
}

function imagesOf(value: Readonly<Record<string, unknown>>): FileValue {
  return isRecord(value['images']) ? value['images'] : value;
}

/**
 * Reads the files of image-syncer, https://github.com/AliyunContainerService/image-syncer: images, or the older file of `auth` and `images`;
 * `auth`, where there is one, names the registries that need credentials.
 */
export function readImageSyncer(value: FileValue, auth: FileValue, shape: Shape): Findings {
  const findings = new Findings();
  const file = shape.record('', value);
  const isOlder = isRecord(file['images']);
  if (isOlder) {
    for (const note of findings.keys('', file, new Set(['auth', 'images']))) findings.entries.push(note);
    readAuth('auth', file['auth'], findings, shape);
  }
  readAuth('--auth', auth, findings, shape);
  const path = isOlder ? 'images.' : '';
  for (const [source, given] of Object.entries(shape.record('images', imagesOf(file)))) {
    const where = `${path}${shownKey(source)}`;
    const to = Array.isArray(given) ? shape.texts(where, given) : [shape.optionalText(where, given) ?? ''];
    readEntry(where, source, [...new Set(to)], findings);
  }
  return findings;
}

function readAuth(where: string, given: FileValue, findings: Findings, shape: Shape): void {
  if (given === undefined || given === null) return;
  for (const [host, one] of Object.entries(shape.record(where, given))) {
    const { username, password, insecure, ...others } = shape.record(`${where}.${shownKey(host)}`, one);
    if (username !== undefined || password !== undefined) findings.credentials.add(host);
    if (shape.optionalBoolean(`${where}.${shownKey(host)}.insecure`, insecure) === true)
      findings.lost(`${where}.${shownKey(host)}.insecure`, INSECURE);
    for (const note of findings.keys(`${where}.${shownKey(host)}`, others, new Set())) findings.entries.push(note);
  }
}

/** The tags of an image as image-syncer writes them. */
type NamedTags =
  | { readonly kind: 'all' }
  | { readonly kind: 'tags'; readonly tags: readonly string[] }
  | { readonly kind: 'expression'; readonly source: string }
  | { readonly kind: 'digest'; readonly digest: string };

/** `repository`, `repository:a,b`, `repository:/expression/` or `repository@digest`. Undefined for others. */
function readNamed(text: string): { readonly image: NamedImage; readonly tags: NamedTags } | undefined {
  const expression = /^([^]*?):\/([^]*)\/$/.exec(text);
  const colon = text.indexOf(':', text.lastIndexOf('/') + 1);
  const isList = expression === null && colon !== -1 && text.includes(',');
  const image = readImage(expression?.[1] ?? (isList ? text.slice(0, colon) : text));
  if (image === undefined) return undefined;
  if (expression !== null) return { image, tags: { kind: 'expression', source: expression[2] ?? '' } };
  if (isList) {
    const tags = text.slice(colon + 1).split(',');
    return tags.every(isTag) ? { image, tags: { kind: 'tags', tags } } : undefined;
  }
  if (image.digest !== undefined) return { image, tags: { kind: 'digest', digest: image.digest } };
  return { image, tags: image.tag === undefined ? { kind: 'all' } : { kind: 'tags', tags: [image.tag] } };
}

function readEntry(where: string, source: string, targets: readonly string[], findings: Findings): void {
  const from = readNamed(source);
  if (from === undefined) {
    findings.lost(where, NOT_AN_IMAGE);
    return;
  }
  if (from.tags.kind === 'digest') {
    findings.lost(where, BY_DIGEST);
    return;
  }
  /** Destinations that keep the tags of the source: one rule has all of them. */
  const same: string[] = [];
  for (const target of targets) {
    const to = /\$/.test(target) ? undefined : readNamed(target);
    if (to === undefined) {
      const why =
        target === '' ? 'it is empty' : /\$/.test(target) ? 'it has a variable of the environment' : NOT_AN_IMAGE;
      findings.lost(where, `destination ${shown(target)}: ${why}`);
    } else if (to.tags.kind === 'all') same.push(nameOf(to.image));
    else addRenamed(where, from, from.tags, to, findings);
  }
  if (same.length > 0) addEntry(where, from.image, same, from.tags, findings);
}

/** Tags that change their names on the way: one rule for each. */
function addRenamed(
  where: string,
  from: { readonly image: NamedImage },
  tags: NamedTags,
  to: { readonly image: NamedImage; readonly tags: NamedTags },
  findings: Findings,
): void {
  if (tags.kind !== 'tags' || to.tags.kind !== 'tags' || tags.tags.length !== to.tags.tags.length) {
    findings.lost(where, `destination ${shown(nameOf(to.image))}: it has to name as many tags as the source, or none`);
    return;
  }
  for (const [index, tag] of tags.tags.entries()) {
    const wanted = to.tags.tags[index] ?? tag;
    const name = nameOf(to.image);
    addEntry(where, from.image, [wanted === tag ? name : `${name}:${wanted}`], { kind: 'tags', tags: [tag] }, findings);
  }
}

function addEntry(
  where: string,
  image: NamedImage,
  to: readonly string[],
  tags: Exclude<NamedTags, { readonly kind: 'digest' }>,
  findings: Findings,
): void {
  try {
    const include =
      tags.kind === 'all' ? undefined : tags.kind === 'tags' ? [...new Set(tags.tags)] : [goExpression(tags.source)];
    findings.add({
      ...PLAIN,
      where,
      name: [plainName(image.repository), ...(include?.length === 1 && tags.kind === 'tags' ? include : [])].join('-'),
      group: image.repository.registry,
      from: [nameOf(image)],
      to,
      tags: { include },
    });
  } catch (error) {
    if (!isFailure(error, 'INVALID')) throw error;
    findings.lost(where, error.message);
  }
}
