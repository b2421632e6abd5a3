import type { Graph, ManifestNode } from '../content/graph.ts';
import { ANNOTATION, MAX_MANIFEST_BYTES, type Descriptor } from '../oci/manifest.ts';
import { checkAborted, type Abortable } from '../util/abort.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { readFile, type TarFiles } from './archive-files.ts';
import { hasPlanMetadata, metadataFaults } from './metadata.ts';
import type { OciImages } from './oci-layout.ts';
import { blobPath, endOf, imageName, planArchive, type ArchiveLayout, type ArchiveNames } from './plan.ts';
import { encodeHeader, END_BYTES, paddingOf } from './tar.ts';

/** What a comparison of everything but the content of manifests and blobs found. */
export interface ArchiveComparison {
  /** Whether everything was compared. False for archives of other tools, which follow no plan: only their lists of images were read. */
  readonly complete: boolean;
  /** The differences, a sentence each. */
  readonly faults: readonly string[];
}

/** The most faults of one archive that are listed: enough to see where it is damaged. */
const MAX_FAULTS = 20;
/** The names of the first entries. */
const FIRST_NAMES: readonly string[] = ['oci-layout', 'index.json'];
/** How every planned `index.json` begins. */
const INDEX_START =
  '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"';

/**
 * The layout by which this program would archive the image in `tar`, whether it did or another tool. Undefined for several images, for a
 * missing manifest, and for an index that does not name the image as a planned one does.
 */
export async function planFound(
  { index, referrers, manifests, foreignAtSource }: OciImages,
  tar: TarFiles,
): Promise<ArchiveLayout | undefined> {
  const [entry, ...others] = index.manifests;
  const names = entry === undefined ? undefined : namesOf(entry);
  if (entry === undefined || names === undefined || others.length > 0) return undefined;
  const placed: { readonly node: ManifestNode; readonly offset: number }[] = [];
  for (const node of manifests.values()) {
    const file = await tar.find(blobPath(node.descriptor.digest));
    if (file === undefined) return undefined;
    placed.push({ node, offset: file.headerOffset });
  }
  placed.sort((a, b) => a.offset - b.offset);
  const graph: Graph = {
    roots: [{ descriptor: entry, tags: [] }],
    referrers,
    unreadable: [],
    manifests: new Map(placed.map(({ node }) => [node.descriptor.digest, node])),
    foreignAtSource,
  };
  return planArchive(graph, names);
}

/**
 * Whether `tar` equals the plan up to its first layer and in its size, so that everything is where the plan puts it. CORRUPT when its end is
 * missing. Configs are not compared: reading them verifies them.
 */
export async function hasPlannedHead(layout: ArchiveLayout, tar: TarFiles): Promise<boolean> {
  for (const planned of layout.entries) {
    if (planned.offset >= layout.headSize) break;
    const expected =
      planned.bytes === undefined
        ? planned.header
        : Buffer.concat([planned.header, planned.bytes], endOf(planned) - planned.offset);
    if (planned.offset + expected.byteLength > tar.length) break;
    if (Buffer.compare(await tar.readAt(planned.offset, expected.byteLength), expected) !== 0) return false;
  }
  if (tar.length < layout.size) {
    throw new Failure('CORRUPT', `it is cut off: it has ${tar.length} of ${layout.size} bytes`);
  }
  return tar.length === layout.size;
}

/**
 * Compares `layout` with every byte of `tar` that is not the content of a blob, and with `metadata`, that of its object. A tar that differs counts as
 * made by another tool, unless its metadata or its form shows that this program planned it: then it is damaged.
 */
export async function compareWithPlan(
  layout: ArchiveLayout | undefined,
  tar: TarFiles,
  metadata: Readonly<Record<string, string>>,
  options: Abortable = {},
): Promise<ArchiveComparison> {
  const unplanned = `${tar.describe('index.json')} does not name the image as an archive of Transship does`;
  const faults = layout === undefined ? [unplanned] : await differencesIn(tar, layout, options);
  if (faults.length > 0 && !hasPlanMetadata(metadata) && !(await looksPlanned(tar, options)))
    return { complete: false, faults: [] };
  return { complete: true, faults: [...faults, ...(layout === undefined ? [] : metadataFaults(metadata, layout))] };
}

/** Bytes of a planned archive. */
interface PlannedPiece {
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** For messages. */
  readonly what: string;
}

/** Every byte of the planned archive that is not the content of a blob, in order. */
export function* plannedPieces(layout: ArchiveLayout): Generator<PlannedPiece, void, undefined> {
  for (const { name, offset, header, bytes, size } of layout.entries) {
    const start = offset + header.byteLength;
    yield { offset, bytes: header, what: `the tar header of ${name}` };
    if (bytes !== undefined) yield { offset: start, bytes, what: name };
    yield { offset: start + size, bytes: new Uint8Array(paddingOf(size)), what: `the padding after ${name}` };
  }
  yield { offset: layout.size - END_BYTES, bytes: new Uint8Array(END_BYTES), what: 'the end' };
}

async function differencesIn(tar: TarFiles, layout: ArchiveLayout, options: Abortable): Promise<readonly string[]> {
  const faults: string[] = [];
  if (tar.length < layout.size) return [`${tar.describe()} is cut off: it has ${tar.length} of ${layout.size} bytes`];
  const compare = async (offset: number, expected: Uint8Array, what: string): Promise<void> => {
    if (expected.byteLength === 0 || faults.length >= MAX_FAULTS) return;
    checkAborted(options);
    const found = await tar.readAt(offset, expected.byteLength);
    const at = expected.findIndex((byte, index) => found[index] !== byte);
    if (at !== -1) faults.push(`${what} of ${tar.describe()} differs from the plan at byte ${offset + at}`);
  };
  for (const { offset, bytes, what } of plannedPieces(layout)) await compare(offset, bytes, what);
  if (tar.length > layout.size) faults.push(`${tar.length - layout.size} bytes follow the end of ${tar.describe()}`);
  return faults;
}

/**
 * Whether the tar has the form of a planned one apart from some damage: its first entries have the planned names, most of its headers are as
 * planned, and its index begins like a planned one or names an image. Damage cannot rename an entry, because the header's checksum fails.
 */
async function looksPlanned(tar: TarFiles, options: Abortable): Promise<boolean> {
  let count = 0;
  let planned = 0;
  try {
    for await (const entry of tar.scan()) {
      checkAborted(options);
      const first = FIRST_NAMES[count++];
      if (entry.kind !== 'file' || (first !== undefined && entry.name !== first)) return false;
      const header = encodeHeader(entry.name, entry.size);
      const found = await tar.readAt(entry.headerOffset, entry.offset - entry.headerOffset);
      if (Buffer.compare(found, header) === 0) planned++;
    }
  } catch (error) {
    // the headers before the broken one decide
    if (!isFailure(error, 'INVALID', 'CORRUPT')) throw error;
  }
  if (count < FIRST_NAMES.length || planned * 2 < count) return false;
  const index = Buffer.from(await readFile(tar, 'index.json', MAX_MANIFEST_BYTES, options)).toString('latin1');
  return index.startsWith(INDEX_START) || index.includes(`"${ANNOTATION.imageName}":"`);
}

/** The names that the archive was planned with, from the one entry of its index. Undefined for an entry that no plan writes. */
function namesOf(entry: Descriptor): ArchiveNames | undefined {
  const tag = entry.annotations?.[ANNOTATION.refName];
  const name = entry.annotations?.[ANNOTATION.imageName];
  const end = imageName({ tag, repository: '' }, entry.digest);
  return name?.endsWith(end) === true ? { tag, repository: name.slice(0, -end.length) } : undefined;
}
