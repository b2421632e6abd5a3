import type { VerifyResult } from '../images/verify.ts';
import type { Looked, PlaceResult } from '../images/verify-result.ts';
import { describeSample } from '../util/sample.ts';
import { incomplete } from './result.ts';
import type { Look } from './look.ts';
import { formatTable } from './table.ts';
import { counted, formatBytes, formatDigest, printable } from './text.ts';

/** Rows of images that are printed: `--json` has all. */
const MAX_ROWS = 200;

/** The results of images, for people. */
export function describeImages(results: readonly VerifyResult[], look: Look): string {
  const faults = results.flatMap(({ at, faults: found }) => found.map((fault) => `fault: ${at}: ${printable(fault)}`));
  return [describeRows(results, look), ...faults].join('\n');
}

function describeRows(results: readonly VerifyResult[], look: Look): string {
  const shown = results.slice(0, MAX_ROWS);
  return [
    formatTable(
      ['result', 'digest', '>manifests', '>blobs', '>hashed', 'image'],
      shown.map((result) => [
        wordOf(result),
        result.digest === undefined ? '' : formatDigest(result.digest),
        String(result.manifests),
        String(result.blobs),
        formatBytes(result.hashedBytes),
        result.at,
      ]),
      look,
      { shorten: ['image'], drop: ['digest', 'manifests', 'blobs'] },
    ),
    ...(results.length > shown.length ? [`and ${results.length - shown.length} more: --json has all`] : []),
    ...describeNotes(results.filter(({ faults }) => faults.length === 0)),
    ...results
      .filter((result) => result.foreign.length > 0)
      .map((result) => `${incomplete(result.foreign.length)}: ${result.at}`),
  ].join('\n');
}

/** What was not checked: a line for each sentence, with the name of its image or the number of images. */
function describeNotes(results: readonly VerifyResult[]): readonly string[] {
  const images = new Map<string, string[]>();
  for (const { at, unchecked } of results)
    for (const what of unchecked) images.set(what, [...(images.get(what) ?? []), at]);
  return [...images].map(
    ([what, all]) => `note: ${all.length === 1 ? all.join('') : `${all.length} images`}: ${printable(what)}`,
  );
}

/** The result of a place, for people. */
export function describePlace(result: PlaceResult, look: Look): string {
  const { images, findings, unchecked, place, depth, sample, names, blobs, snapshots, hashedBytes } = result;
  const parts = [
    `depth ${depth}`,
    ...(sample === undefined ? [] : [describeSample(sample)]),
    describeLooked(names, 'names'),
    ...(blobs === undefined ? [] : [describeLooked(blobs, 'blobs')]),
    ...(snapshots === undefined ? [] : [describeLooked(snapshots, 'snapshots')]),
    `${formatBytes(hashedBytes)} hashed`,
    counted(findings.length, 'finding'),
  ];
  return [
    ...(images.length === 0 ? [] : [describeRows(images, look), '']),
    ...unchecked.map((what) => `note: ${printable(what)}`),
    ...findings.map(({ kind, at, message }) => `${kind}: ${at}: ${printable(message)}`),
    `${placeWord(result)} ${place}: ${parts.join(', ')}`,
  ].join('\n');
}

function describeLooked({ checked, of }: Looked, what: string): string {
  return `${checked} of ${of} ${what}`;
}

/** The result in a word, which claims no more than was checked. */
function placeWord({ findings, complete, depth, images }: PlaceResult): string {
  if (findings.some(({ kind }) => kind !== 'unread')) return 'FAULTY';
  if (findings.length > 0) return 'UNREAD';
  if (images.some(({ foreign }) => foreign.length > 0)) return 'incomplete';
  if (complete) return 'whole';
  return depth === 'tags' ? 'named' : depth === 'blobs' ? 'present' : 'partly whole';
}

/** The result in a word, which claims no more than was checked. */
function wordOf({ at, faults, foreign, complete, manifests }: VerifyResult): string {
  if (faults.length > 0) return 'FAULTY';
  if (foreign.length > 0) return 'incomplete';
  if (complete) return 'whole';
  if (manifests === 0) return 'named';
  return at.startsWith('docker://') ? 'present' : 'blobs whole';
}
