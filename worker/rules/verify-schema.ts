import { z } from 'zod';
import { parsePlace } from '../oci/place.ts';
import { parseScratchPlace } from '../oci/scratch.ts';
import { Failure } from '../util/failure.ts';
import { parsePercent } from '../util/sample.ts';
import { quote } from '../util/text.ts';
import { mapping, someOf, textOf } from './schema-parts.ts';
import { parseStore } from './stores.ts';

/** A rule's `verify`: where, how deep, and how much of it at a time. */
export const VerifySchema = mapping({
  at: someOf(textOf(parseVerified, 'store:s3://bucket/prefix/, s3://bucket/prefix/ or host/repositories*')).describe(
    'What to verify.',
  ),
  depth: z
    .enum(['tags', 'blobs', 'bytes'], { error: 'tags, blobs or bytes' })
    .optional()
    .describe('How deep. Default: `bytes` of archives, `blobs` of stores and registries.'),
  sample: textOf(parsePercent, 'The part that one run reads: `5%`.')
    .optional()
    .describe('Each run reads another part. Default: everything.'),
  restoreTo: textOf(parseScratchPlace, 'host/prefix')
    .optional()
    .describe(
      'Each run is a drill: images of the stores and archives are restored into scratch repositories below this prefix, and compared.',
    ),
}).check((ctx) => {
  const { at, depth, restoreTo } = ctx.value;
  if (restoreTo === undefined) return;
  const refuse = (message: string, ...path: (string | number)[]): void =>
    void ctx.issues.push({ code: 'custom', message, input: ctx.value, path });
  if (depth !== undefined)
    refuse('a drill reads every byte of the images that it restores: expected no "depth", or no "restoreTo"', 'depth');
  at.forEach((place, i) => {
    if (!/^(?:store:)?s3:/.test(place))
      refuse('a drill restores a store or archives: expected store:s3:// or s3://', 'at', i);
  });
});

/** Reads a place that workers reach, and returns its canonical name: as `VerifyRule.at` has it. INVALID for folders and others. */
export function parseVerified(text: string): string {
  const place = parsePlace(text);
  if (place.kind === 'store') return parseStore(text);
  if (place.kind === 'archives' && 'bucket' in place.root) return `s3://${place.root.bucket}/${place.root.prefix}`;
  if (place.kind === 'archives')
    throw new Failure('INVALID', `${quote(text)} is a folder of one machine: expected a place that workers reach`);
  const { registry, repository, tag } = place.pattern;
  return `${registry}/${repository}${tag === undefined ? '' : `:${tag}`}`;
}
