import { SETTINGS_NAME } from '../oci/archive-key.ts';
import { cosignSubject, isDerivedTag, isReferrersTag, referrersTag } from '../oci/derived-tag.ts';
import { isDigest, shortDigest } from '../oci/digest.ts';
import { isIndexType, MEDIA_TYPE } from '../oci/manifest.ts';
import { compareStrings } from '../util/text.ts';
import type { Inventory, Item } from './inventory.ts';

/** An item, and how it hangs together with the others of its inventory. */
export interface Node {
  readonly item: Item;
  /** Tags that people gave. The tag of the image, of an archive. */
  readonly tags: readonly string[];
  /** Tags by which cosign, and registries without the referrers API, find what refers to an image. */
  readonly derivedTags: readonly string[];
  /** The repository's settings, which stay while an archive is beside them. */
  readonly isSettings: boolean;
  /** What this one belongs to and does not outlive, and what it is there. */
  readonly above: Map<Node, Relation>;
  /** What belongs to this one, in order of ids. */
  readonly below: Node[];
}

type Relation = 'child' | 'referrer' | 'signature' | 'attestation' | 'SBOM' | 'list of referrers' | 'settings';

const COSIGN: Readonly<Record<string, Relation>> = { sig: 'signature', att: 'attestation', sbom: 'SBOM' };

/** The items of an inventory in order of ids, connected. Relations to what is not in the inventory are left out. */
export function graphOf({ items, kind }: Inventory): readonly Node[] {
  const nodes = items.toSorted((a, b) => compareStrings(a.id, b.id)).map((item) => nodeOf(item, kind));
  if (kind === 'archives') {
    const archives = Map.groupBy(
      nodes.filter((node) => !node.isSettings),
      ({ item }) => folderOf(item),
    );
    for (const node of nodes.filter(({ isSettings }) => isSettings))
      for (const archive of archives.get(folderOf(node.item)) ?? []) connect(archive, node, 'settings');
    return nodes;
  }
  const byDigest = new Map(nodes.map((node) => [node.item.digest ?? node.item.id, node]));
  const byReferrersTag = new Map<string, Node>();
  for (const node of nodes) {
    if (node.item.digest !== undefined) byReferrersTag.set(referrersTag(node.item.digest), node);
  }
  for (const node of nodes) {
    for (const child of node.item.children) connect(node, byDigest.get(child), 'child');
    const { subject } = node.item;
    if (subject !== undefined) connect(byDigest.get(subject), node, 'referrer');
    for (const tag of node.derivedTags) {
      if (!isReferrersTag(tag))
        connect(byDigest.get(cosignSubject(tag) ?? ''), node, COSIGN[tag.slice(tag.indexOf('.') + 1)] ?? 'signature');
      // such a list is an index: any other manifest is an image that people gave this tag
      else if (isIndexType(node.item.mediaType ?? MEDIA_TYPE.ociIndex))
        connect(byReferrersTag.get(tag), node, 'list of referrers');
    }
  }
  for (const node of nodes) node.below.sort(byId);
  return nodes;
}

function folderOf({ id }: Item): string {
  return id.slice(0, id.lastIndexOf('/') + 1);
}

/** The order of two items by their ids. */
export function byId(a: Node, b: Node): number {
  return compareStrings(a.item.id, b.item.id);
}

function nodeOf(item: Item, kind: Inventory['kind']): Node {
  const isImage = kind === 'images';
  const isSettings = !isImage && item.id === `${folderOf(item)}${SETTINGS_NAME}`;
  const tags = isImage || item.tags.length > 0 ? [...new Set(item.tags)].sort(compareStrings) : tagOf(item.image);
  return {
    item,
    tags: isImage ? tags.filter((tag) => !isDerivedTag(tag)) : tags,
    derivedTags: isImage ? tags.filter(isDerivedTag) : [],
    isSettings,
    above: new Map(),
    below: [],
  };
}

/** The tag of `registry/repository:tag`. */
function tagOf(image: string | undefined): readonly string[] {
  const name = image?.slice(image.lastIndexOf('/') + 1) ?? '';
  const colon = name.indexOf(':');
  return colon === -1 || name.includes('@') ? [] : [name.slice(colon + 1)];
}

function connect(above: Node | undefined, below: Node | undefined, relation: Relation): void {
  if (above === undefined || below === undefined || above === below || below.above.has(above)) return;
  below.above.set(above, relation);
  above.below.push(below);
}

/** What a person calls it: the key of an archive, an image's first tag or the start of its digest. */
export function labelOf({ item, tags, derivedTags }: Node): string {
  if (!isDigest(item.id)) return item.id;
  return tags[0] ?? derivedTags[0] ?? shortDigest(item.id);
}

/** The last pull of an image or of one of its children; undefined: that of the image is not known. */
export function lastPull(node: Node): number | undefined {
  if (node.item.pulledAtMs === undefined) return undefined;
  let last = node.item.pulledAtMs;
  const seen = new Set([node]);
  // what is added while a set is walked is walked too
  for (const one of seen) {
    last = Math.max(last, one.item.pulledAtMs ?? last);
    for (const below of one.below) if (below.above.get(one) === 'child') seen.add(below);
  }
  return last;
}
