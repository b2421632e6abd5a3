import { Option, type Command } from 'commander';
import type { PlaceMoment } from '../images/diff-places.ts';
import { parsePlace } from '../oci/place.ts';
import type { BackupPlace } from '../images/open-backups.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import type { KeyFlags } from './context.ts';
import { withVerifyKeyFlag } from './sides.ts';

/** Flags about the moment that is meant, of commands that read what a backup stored. */
export interface SnapshotFlags extends Pick<KeyFlags, 'verifyKey'> {
  readonly snapshot?: string;
  readonly asOf?: string;
  readonly only?: readonly string[];
}

/** Adds `--snapshot`, `--as-of`, `--only` and `--verify-key`. */
export function withSnapshotFlags(command: Command): Command {
  return withVerifyKeyFlag(command)
    .addOption(
      new Option(
        '--snapshot <id>',
        'exactly this snapshot: its id, the beginning of it, or "latest" (default: the newest image of each tag of all snapshots)',
      ).conflicts('asOf'),
    )
    .option('--as-of <time>', 'as it was at this time: 2026-05-31, 2026-05-31T18:00Z, or 2d, 3h, 30m ago')
    .addOption(onlyOption());
}

/** `--only`, for commands that choose among images of many repositories. */
export function onlyOption(): Option {
  return new Option(
    '--only <pattern[:tags]>',
    'only these repositories, or these tags of them, such as "team/*:1.*"; may be given more than once',
  ).argParser((value, before: readonly string[] | undefined) => [...(before ?? []), value]);
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/**
 * Reads a time as a person writes it, in milliseconds since 1970: `2d`, `3h` or `30m` before `nowMs`; a date, which stands for its end, or a
 * date and time, both in UTC unless they name another zone. INVALID otherwise.
 */
export function parseTime(text: string, nowMs: number): number {
  const [, number = '', unit = ''] = /^([0-9]{1,6})([smhdw])$/.exec(text) ?? [];
  const unitMs = UNIT_MS[unit];
  if (unitMs !== undefined) return nowMs - Number(number) * unitMs;
  const isDate = /^\d{4}-\d{2}-\d{2}$/.test(text);
  const [, date = '', time = '', zone = ''] =
    /^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?)(Z|[+-]\d{2}:\d{2})?$/i.exec(text) ?? [];
  const iso = isDate ? `${text}T23:59:59.999Z` : `${date}T${time}${zone === '' ? 'Z' : zone.toUpperCase()}`;
  const ms = isDate || date !== '' ? Date.parse(iso) : Number.NaN;
  // Date.parse takes the 31st of a month with 30 days for the next one's first
  const day = isDate ? text : date;
  if (Number.isNaN(ms) || new Date(`${day}T00:00:00Z`).toISOString().slice(0, 10) !== day)
    throw new Failure(
      'INVALID',
      `${quote(text)} is not a time: write a date (2026-05-31), a date and time (2026-05-31T18:00Z), or how long ago it was (2d, 3h, 30m)`,
    );
  return ms;
}

/**
 * Reads `PLACE`, or `PLACE#SNAPSHOT`: an id, its beginning, `latest`, or a time as `parseTime` reads it. INVALID for a registry with a snapshot, and
 * for what is neither a snapshot nor a time. A "#" before a "/" is a part of the place.
 */
export function parseMoment(text: string, nowMs: number): PlaceMoment {
  const at = text.lastIndexOf('#');
  const moment = at === -1 ? '' : text.slice(at + 1);
  if (moment === '' || moment.includes('/')) return { place: parsePlace(text) };
  const place = parsePlace(text.slice(0, at));
  if (place.kind === 'registry')
    throw new Failure('INVALID', `${quote(text)}: a registry has no snapshots; leave out #${moment}`);
  if (moment === 'latest' || /^[0-9a-f]{4,64}$/.test(moment)) return { place, snapshot: moment };
  return { place, asOfMs: parseTime(moment, nowMs) };
}

/** A place that has snapshots. INVALID for a registry. */
export function parseBackupPlace(text: string): BackupPlace {
  const place = parsePlace(text);
  if (place.kind !== 'registry') return place;
  throw new Failure(
    'INVALID',
    `${quote(text)} is a registry, which has no snapshots: name a store (store:s3://bucket/prefix/, store:folder) or archives (s3://bucket/prefix/, ./folder/)`,
  );
}
