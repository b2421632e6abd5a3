import { withoutSecrets } from '../../oci/reference.ts';
import { escaped, quote, redacted } from '../../util/text.ts';

/** Which tags of a repository, in the words of the rules file. Empty: all. */
export interface Tags {
  readonly include?: readonly string[] | undefined;
  readonly exclude?: readonly string[] | undefined;
  readonly semver?: string | undefined;
  /** The N highest versions. */
  readonly latest?: number | undefined;
}

export interface RuleSchedule {
  readonly cron: string;
  /** IANA name. Default UTC. */
  readonly timeZone?: string | undefined;
}

/** What a person has to know of one entry of the other tool's file. */
export interface Note {
  /** The entry: `sync[3].backup`. */
  readonly where: string;
  readonly text: string;
  /** Whether the rules do less than the entry, more, or something else. False: a remark. */
  readonly lost: boolean;
}

/** One entry of another tool's file, as close as a rule comes to it. */
export interface Mapping {
  /** The entry: `sync[3]`. */
  readonly where: string;
  /** What the rule is called if the name is free, before it is made one that rules may have. */
  readonly name: string;
  /** What a rule made of several such mappings is called. */
  readonly group: string;
  /** As in the rules file; one at least. */
  readonly from: readonly string[];
  /** As in the rules file; one at least. */
  readonly to: readonly string[];
  readonly tags: Tags;
  /** Empty: all. */
  readonly platforms: readonly string[];
  readonly referrers: boolean;
  /** Absent: the schedule that all rules get. */
  readonly schedule?: RuleSchedule | undefined;
  readonly onPush?: boolean | undefined;
  /** As in the rules file. */
  readonly expires?: string | undefined;
  readonly notes: readonly Note[];
}

/** What is the same for most mappings. */
export const PLAIN = { platforms: [], referrers: true, notes: [] } as const satisfies Partial<Mapping>;

/** The content of a file of another tool, in its order: mappings, and notes on entries that no rule is made of. */
export class Findings {
  readonly entries: (Mapping | Note)[] = [];
  /** Registries that the file has credentials for, by what it calls them. */
  readonly credentials = new Set<string>();

  add(mapping: Mapping): void {
    this.entries.push(mapping);
  }

  lost(where: string, text: string): void {
    this.entries.push(lost(where, text));
  }

  /** A note for each key that no rule can carry; its value is not shown, since it may be a secret. */
  keys(
    where: string,
    given: Readonly<Record<string, unknown>>,
    known: ReadonlySet<string>,
    reasons: ReadonlyMap<string, string> = new Map(),
  ): readonly Note[] {
    return Object.keys(given)
      .filter((key) => !known.has(key))
      .map((key) =>
        lost(where === '' ? shownKey(key) : `${where}.${shownKey(key)}`, reasons.get(key) ?? 'this key is not known'),
      );
  }
}

/** A note on what no rule does in exactly this way. */
export function lost(where: string, text: string): Note {
  return { where, text, lost: true };
}

export function isNote(entry: Mapping | Note): entry is Note {
  return 'lost' in entry;
}

/** Text of the file as a note may show it: quoted, without what may be a password in it. */
export function shown(text: string): string {
  return quote(withoutSecrets(text));
}

/** A key of the file as a path names it. */
export function shownKey(key: string): string {
  return /^[A-Za-z0-9][A-Za-z0-9_./:-]{0,255}$/.test(key) ? key : shown(key);
}

/** A note as one line. */
export function formatNote({ where, text }: Note): string {
  return escaped(redacted(`${where}: ${text}`));
}
