import { ecrHost } from '../../oci/ecr-host.ts';
import type { ItemAttribute } from '../../state/table-items.ts';
import { isFailure } from '../../util/failure.ts';
import { compareStrings } from '../../util/text.ts';
import { formatExpiry, parseExpiry } from '../expiry.ts';
import { MAX_DESTINATIONS } from '../../queue/job.ts';
import { Findings, lost, PLAIN, shown, shownKey, type Note } from './mapping.ts';
import { BY_DIGEST, nameOf, NOT_AN_IMAGE, plainName, readImage, type NamedImage } from './references.ts';

const KEYS = new Set(['Source', 'Destination', 'Expires']);
const SECRET = /user|pass|secret|token|auth|cred|key/i;

/**
 * Reads the items of the table of https://github.com/cuppett/aws-ecr-mirror: `Source`, an image; `Destination`, images as a string, with commas
 * or as a set; `Expires`, seconds since 1970.
 */
export function readCuppett(items: readonly Readonly<Record<string, ItemAttribute>>[]): Findings {
  const findings = new Findings();
  // a table has no order of its own
  const sourceOf = ({ Source: source }: (typeof items)[number]): string => (typeof source === 'string' ? source : '');
  for (const item of items.toSorted((a, b) => compareStrings(sourceOf(a), sourceOf(b)))) readItem(item, findings);
  return findings;
}

function readItem(item: Readonly<Record<string, ItemAttribute>>, findings: Findings): void {
  const { Source: source, Destination: destination } = item;
  const where = typeof source === 'string' ? shownKey(source) : 'an item without Source';
  const image = typeof source === 'string' ? readImage(source.trim()) : undefined;
  const notes: Note[] = [];
  let isCredential = false;
  for (const name of Object.keys(item)) {
    if (KEYS.has(name)) continue;
    if (SECRET.test(name)) isCredential = true;
    else notes.push(lost(`${where}: ${shown(name)}`, 'this attribute is not known'));
  }
  if (isCredential) findings.credentials.add(image?.repository.registry ?? where);
  if (image === undefined) {
    findings.lost(where, NOT_AN_IMAGE);
    return;
  }
  if (image.digest !== undefined) {
    findings.lost(where, BY_DIGEST);
    return;
  }
  const to = destinationsOf(where, destination, image, notes);
  const expires = expiryOf(where, item['Expires'], notes);
  if (to.length === 0) for (const note of notes) findings.entries.push(note);
  for (let at = 0; at < to.length; at += MAX_DESTINATIONS)
    findings.add({
      ...PLAIN,
      where,
      name: `${plainName(image.repository)}-${image.tag ?? 'latest'}`,
      group: image.repository.registry,
      from: [nameOf(image)],
      to: to.slice(at, at + MAX_DESTINATIONS),
      tags: { include: [image.tag ?? 'latest'] },
      // a push to ECR starts its controller
      onPush: ecrHost(image.repository.registry) !== undefined,
      expires,
      notes: at === 0 ? notes : [],
    });
}

function destinationsOf(
  where: string,
  given: ItemAttribute | undefined,
  source: NamedImage,
  notes: Note[],
): readonly string[] {
  const texts = typeof given === 'string' ? given.split(',') : Array.isArray(given) ? (given as readonly string[]) : [];
  const to = new Set<string>();
  for (const text of texts.map((one) => one.trim()).filter((one) => one !== '')) {
    const image = readImage(text);
    if (image === undefined) notes.push(lost(where, `destination ${shown(text)}: ${NOT_AN_IMAGE}`));
    else if (image.digest !== undefined) notes.push(lost(where, `destination ${shown(text)}: ${BY_DIGEST}`));
    else {
      const tag = image.tag ?? 'latest';
      to.add(tag === (source.tag ?? 'latest') ? nameOf(image) : `${nameOf(image)}:${tag}`);
    }
  }
  if (to.size === 0) notes.push(lost(where, 'it has no Destination'));
  return [...to];
}

function expiryOf(where: string, given: ItemAttribute | undefined, notes: Note[]): string | undefined {
  // DynamoDB expires by numbers only
  if (given === undefined || given === null || given === '') return undefined;
  try {
    if (typeof given === 'number') {
      const text = formatExpiry(Math.round(given) * 1000);
      parseExpiry(text);
      return text;
    }
  } catch (error) {
    if (!isFailure(error, 'INVALID') && !(error instanceof RangeError)) throw error;
  }
  notes.push(lost(`${where}: Expires`, 'it is not a time in seconds since 1970: the rule does not expire'));
  return undefined;
}
