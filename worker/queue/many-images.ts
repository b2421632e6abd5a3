import { z } from 'zod';
import { digest } from './checked.ts';

/** Which images of one registry a job is about. */
export interface ManyImages {
  /** Patterns of repositories of one registry, `docker://host/pattern`: `*` stands for any characters, `{a,b}` for either. */
  readonly from: readonly string[];
  /** Absent: every image that has a tag. */
  readonly select?: ImageSelection | undefined;
  /** Only these images, of the one repository that `from` names. Absent: all that `select` takes. */
  readonly only?: readonly NamedImage[] | undefined;
  /** `os/architecture[/variant]`; absent: all. */
  readonly platforms?: readonly string[] | undefined;
  /** Signatures, SBOMs and what else refers to the images. Default true. */
  readonly referrers?: boolean | undefined;
  /** Into stores: images in ECR's archive storage class are restored, stored and archived again. Default false: they are listed as archived. */
  readonly includeArchived?: boolean | undefined;
  /** False: settings of repositories are not stored. */
  readonly settings?: false | undefined;
  /** True: a page about all backups of the place is written beside its snapshots. Default false. */
  readonly report?: boolean | undefined;
}

/** Which images of a repository are chosen, as by `tags` of a rule. Absent members choose nothing. */
export interface ImageSelection {
  readonly include?: readonly string[] | undefined;
  readonly exclude?: readonly string[] | undefined;
  readonly semver?: string | undefined;
  readonly latest?: { readonly count: number; readonly by: 'version' | 'push' } | undefined;
  readonly maxAgeDays?: number | undefined;
  readonly untagged?: boolean | undefined;
}

/** An image of a repository, as it was when the job was planned. What the tag stands for when the job runs is stored. */
export interface NamedImage {
  readonly tag?: string | undefined;
  readonly digest: string;
}

/** The patterns of a job as one: `docker://host/pattern`, with braces around several. */
export function patternOf({ from }: Pick<ManyImages, 'from'>): string {
  const [first = '', ...others] = from;
  if (others.length === 0) return first;
  const host = `docker://${first.split('/', 3)[2] ?? ''}/`;
  return `${host}{${from.map((one) => one.slice(host.length)).join(',')}}`;
}

/** The most patterns of one job: what the braces of one source can stand for. */
const MAX_PATTERNS = 1000;
const MAX_PATTERN = 512;

const texts = z.array(z.string().min(1).max(MAX_PATTERN)).max(MAX_PATTERNS);

/** The members of `ManyImages`, as schemas. Patterns of tags and versions are read when they are used. */
export const MANY_IMAGES = {
  from: z
    .array(
      z
        .string()
        .regex(/^docker:\/\/[^/@\s]+\/[a-z0-9._/*{},-]+$/, 'expected docker://host/repositories*')
        .max(MAX_PATTERN, `expected ${MAX_PATTERN} characters at most`),
    )
    .min(1, 'expected one pattern of repositories at least')
    .max(MAX_PATTERNS, `expected ${MAX_PATTERNS} patterns at most`)
    .refine(
      (list) => new Set(list.map((one) => one.split('/', 3)[2])).size === 1,
      'expected repositories of one registry',
    ),
  select: z
    .strictObject({
      include: texts.optional(),
      exclude: texts.optional(),
      semver: z.string().max(MAX_PATTERN).optional(),
      latest: z.strictObject({ count: z.int().min(1), by: z.enum(['version', 'push']) }).optional(),
      maxAgeDays: z.number().positive().optional(),
      untagged: z.boolean('expected true or false').optional(),
    })
    .optional(),
  only: z
    .array(z.object({ tag: z.string().max(128).optional(), digest }))
    .min(1)
    .optional(),
  // none chosen is all, as in a rule
  platforms: z
    .array(z.string().regex(/^[\w.-]+\/[\w.-]+(?:\/[\w.-]+)?$/, 'expected os/architecture[/variant]'))
    .transform((list) => (list.length === 0 ? undefined : list))
    .optional(),
  referrers: z.boolean('expected true or false').optional(),
  includeArchived: z.boolean('expected true or false').optional(),
  settings: z.literal(false, 'expected false').optional(),
  report: z.boolean('expected true or false').optional(),
};
