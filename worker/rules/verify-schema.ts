import { z } from 'zod';
import { parsePlace } from '../oci/place.ts';
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
});

/** Reads a place that workers reach, and returns it by its one name: as `VerifyRule.at` has it. INVALID for folders and others. */
export function parseVerified(text: string): string {
  const place = parsePlace(text);
  if (place.kind === 'store') return parseStore(text);
  if (place.kind === 'archives' && 'bucket' in place.root) return `s3://${place.root.bucket}/${place.root.prefix}`;
  if (place.kind === 'archives')
    throw new Failure('INVALID', `${quote(text)} is a folder of one machine: expected a place that workers reach`);
  const { registry, repository, tag } = place.pattern;
  return `${registry}/${repository}${tag === undefined ? '' : `:${tag}`}`;
}
