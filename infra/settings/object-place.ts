import { z } from 'zod';
import { bucketName } from './values.ts';

/** Keys of a bucket that begin with one prefix. */
export interface ObjectPlace {
  /** Undefined: the bucket of the deployment. */
  readonly bucket: string | undefined;
  /** Empty, or ends in `/`. */
  readonly prefix: string;
}

const EXPECTED =
  'expected s3://bucket/prefix/, or prefix/ of the bucket of the deployment (all of it: /), ending in / and without wildcards';

/** The forms in the settings: `s3://bucket/prefix/`, `s3://bucket/`, `prefix/`, or `/`. Characters that IAM reads as a wildcard or a variable are refused. */
export const objectPlace = z
  .string(EXPECTED)
  .max(900, 'is too long for a key of S3')
  .refine((text) => /^(?:s3:\/\/[^/]+\/|(?!s3:))(?!\/.)[^*?$\p{Cc}]*(?<=\/)$/u.test(text), {
    error: EXPECTED,
    abort: true,
  })
  .superRefine((text, context) => {
    const { bucket } = parseObjectPlace(text);
    const problem = bucket === undefined ? undefined : bucketName.safeParse(bucket).error?.issues[0]?.message;
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
  });

/** Parses what `objectPlace` accepts. */
export function parseObjectPlace(text: string): ObjectPlace {
  const [, bucket, prefix = ''] = /^(?:s3:\/\/([^/]+)\/)?(.*)$/s.exec(text) ?? [];
  return { bucket, prefix: prefix === '/' ? '' : prefix };
}
