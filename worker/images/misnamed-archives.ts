import { archiveKindOf } from '../oci/archive-key.ts';
import type { Location } from '../oci/location.ts';
import type { Reference } from '../oci/reference.ts';
import { isNamedByKey } from './archive-name.ts';
import type { Finding } from './verify-result.ts';

/** What an archive holds, from its own metadata. */
export interface HeldImage {
  /** For people. */
  readonly at: string;
  readonly location: Location;
  /** What the key or path of every archive of the place begins with. */
  readonly prefix: string;
  readonly reference: Reference;
}

/**
 * The archives whose keys name another image than they hold, as two swapped ones do: `restore` refuses them. A finding where other archives of the
 * place are named by their keys, or only another key ends in its name; a note otherwise, because a template may name archives in any way. Pure.
 */
export function misnamedOf(held: readonly HeldImage[]): {
  readonly findings: readonly Finding[];
  readonly notes: readonly string[];
} {
  const misnamed = held.filter(({ location, prefix, reference }) => !isNamedByKey(location, prefix, reference));
  if (misnamed.length === 0) return { findings: [], notes: [] };
  const ends = misnamed.length < held.length ? undefined : new Set(held.flatMap(({ location }) => endsOf(location)));
  const findings: Finding[] = [];
  const notes: string[] = [];
  for (const { at, location, reference } of misnamed) {
    const message = `it holds ${nameOf(reference)}, which its key does not name`;
    const end = endOf(reference);
    const isOfAnother = ends?.has(end) === true && !endsOf(location).includes(end);
    if (ends === undefined || isOfAnother) findings.push({ kind: 'moved', at, message });
    else notes.push(`${at}: ${message}`);
  }
  return { findings, notes };
}

function nameOf({ repository, tag, digest }: Reference): string {
  return tag === undefined ? `${repository}@${digest}` : `${repository}:${tag}`;
}

/** What the key of a backup of an image ends in, without the ending of the file. */
function endOf({ repository, tag, digest }: Reference): string {
  return `${repository}/${tag ?? digest?.replace(':', '-') ?? ''}`;
}

/** Every end of a key that begins with a whole segment, without the ending of the file. */
function endsOf(location: Location): readonly string[] {
  const path = location.transport === 's3' ? location.key : location.transport === 'archive' ? location.path : '';
  const kind = archiveKindOf(path);
  const segments = kind === undefined ? [] : path.slice(0, -kind.length - 1).split('/');
  return segments.map((_, index) => segments.slice(index).join('/'));
}
