import type { Digest } from '../oci/digest.ts';
import { quote } from '../util/text.ts';
import { FORMAT_VERSION, imageName, type ArchiveLayout } from './plan.ts';

type Metadata = Readonly<Record<string, string>>;

/** The metadata that an archive is stored with, where the store keeps any: docs/archive-format.md. */
const NAMES = {
  format: 'transship-format',
  root: 'transship-root',
  source: 'transship-source',
  layout: 'transship-layout',
  head: 'transship-head',
  created: 'transship-created',
  settings: 'transship-settings',
  unlisted: 'transship-unlisted',
} as const;

/** How an archive was written, as its metadata records it. A resumed upload keeps the values that it was begun with. */
export interface ArchiveNotes {
  /** The digest of the `repository.json` that it is written with. Absent: it names none. */
  readonly settings?: Digest | undefined;
  /** Whether more may refer to the image than its source listed. Default false. */
  readonly unlisted?: boolean | undefined;
}

/** The metadata of every archive of this layout. */
export function metadataOf(layout: ArchiveLayout, { settings, unlisted = false }: ArchiveNotes = {}): Metadata {
  return {
    [NAMES.format]: FORMAT_VERSION,
    [NAMES.root]: layout.root.digest,
    [NAMES.source]: imageName(layout.names, layout.root.digest),
    [NAMES.layout]: layout.digest,
    ...(settings === undefined ? {} : { [NAMES.settings]: settings }),
    ...(unlisted ? { [NAMES.unlisted]: 'true' } : {}),
  };
}

/** The metadata of an archive that can be read in ranges: also how much of it to read first, and when it was made. */
export function rangedMetadataOf(layout: ArchiveLayout, createdMs: number, notes?: ArchiveNotes): Metadata {
  return {
    ...metadataOf(layout, notes),
    [NAMES.head]: String(layout.headSize),
    [NAMES.created]: new Date(createdMs).toISOString(),
  };
}

/** The digest of the layout that an archive was written by; undefined when its metadata does not state it. */
export function layoutDigestIn(metadata: Metadata): string | undefined {
  return metadata[NAMES.layout];
}

/** The digest of the image that an archive holds, not checked; undefined when its metadata does not state it. */
export function rootIn(metadata: Metadata): string | undefined {
  return metadata[NAMES.root];
}

/** The name of the image that an archive holds, `registry/repository` with its tag or digest; undefined when its metadata does not state it. */
export function sourceIn(metadata: Metadata): string | undefined {
  return metadata[NAMES.source];
}

/** When an archive was begun, not checked; undefined when its metadata does not state it. */
export function createdIn(metadata: Metadata): string | undefined {
  return metadata[NAMES.created];
}

/** The digest of the `repository.json` that an archive was written with, from its metadata; undefined when the metadata does not name it. */
export function settingsDigestIn(metadata: Metadata): string | undefined {
  return metadata[NAMES.settings];
}

/** Whether an archive was written from a source that did not list all that may refer to the image. */
export function isUnlisted(metadata: Metadata): boolean {
  return metadata[NAMES.unlisted] !== undefined;
}

/** Bytes up to the first layer; undefined when the metadata does not state it, or states something other than a size. */
export function headSizeIn(metadata: Metadata): number | undefined {
  const size = Number(metadata[NAMES.head]);
  return size > 0 ? size : undefined;
}

/** Whether the metadata is that of an archive that this program planned. */
export function hasPlanMetadata(metadata: Metadata): boolean {
  return metadata[NAMES.format] !== undefined || metadata[NAMES.layout] !== undefined;
}

/** Where the metadata of an archive contradicts its content, a sentence each. Absent metadata contradicts nothing. */
export function metadataFaults(metadata: Metadata, layout: ArchiveLayout): readonly string[] {
  const expected = { ...metadataOf(layout), [NAMES.head]: String(layout.headSize) };
  return Object.entries(expected).flatMap(([name, value]) => {
    const found = metadata[name];
    return found === undefined || found === value
      ? []
      : [`the metadata ${name} of the archive is ${quote(found)}, but its content has ${quote(value)}`];
  });
}
