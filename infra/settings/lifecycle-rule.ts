import { z } from 'zod';
import type { Refuse } from './refuse.ts';
import { days } from './values.ts';

const images = z.int().min(1).max(100_000);

/**
 * What happens to one kind of image, as a rule of an ECR lifecycle policy. A rule applies to the images that no earlier rule matches, so the
 * order matters. https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html
 */
export const lifecycleRule = z.strictObject({
  /** Images with a tag that matches this pattern. Without it and `untagged`: all images. */
  tagged: z
    .string()
    .regex(/^[\w.*-]{1,128}$/, 'expected a tag, or a pattern such as prod-*')
    .refine((pattern) => pattern.split('*').length <= 5, 'ECR accepts at most four * in a pattern')
    .optional(),
  /** Images without a tag. */
  untagged: z.literal(true, 'expected true: remove it otherwise').optional(),
  /** How many images are kept, the youngest ones; the others are deleted. */
  keepLast: images.optional(),
  /** Deleted so many days after their push. */
  expireAfterDays: days.optional(),
  /** How many images stay as they are, the youngest ones; the others are archived. */
  archiveAllButLast: images.optional(),
  /** Archived so many days after their push. */
  archiveAfterDays: days.optional(),
  /** Archived so many days after their last pull, or after their push if they were never pulled. */
  archiveUnpulledAfterDays: days.optional(),
  /** Deleted so many days after they were archived. */
  expireArchivedAfterDays: z.int().min(90, 'ECR keeps archived images for at least 90 days').max(36_500).optional(),
});

export type LifecycleRule = z.infer<typeof lifecycleRule>;

/** The actions for images that are not archived. A rule of ECR has one of them. */
export const ACTIONS = [
  'keepLast',
  'expireAfterDays',
  'archiveAllButLast',
  'archiveAfterDays',
  'archiveUnpulledAfterDays',
] as const satisfies readonly (keyof LifecycleRule)[];

/** The most rules of an ECR lifecycle policy: https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html */
const MAX_RULES = 50;

/** Refuses, by their place in the list, rules that ECR would refuse or would never apply. */
export function checkLifecycle(rules: readonly LifecycleRule[], refuse: Refuse): void {
  if (rules.length === 0) refuse([], 'it has no rule: remove it');
  rules.forEach((rule, index) => {
    const { tagged, untagged, expireArchivedAfterDays } = rule;
    const actions = ACTIONS.filter((name) => rule[name] !== undefined);
    const [first, second] = actions;
    if (tagged !== undefined && untagged !== undefined)
      refuse([index, 'untagged'], 'an image is either tagged or untagged: use one of tagged and untagged');
    if (first === undefined && expireArchivedAfterDays === undefined)
      refuse([index], `it does nothing: name one of ${ACTIONS.join(', ')}, expireArchivedAfterDays`);
    if (first !== undefined && second !== undefined)
      refuse([index, second], `cannot be combined with ${first}: a rule of ECR has one of the two`);
    if (tagged === undefined && untagged === undefined)
      for (const name of ['keepLast', 'archiveAllButLast'] as const)
        if (rule[name] !== undefined)
          refuse([index, name], "counts the platforms of an index as images of their own: add tagged: '*'");
  });
  // archived images have rules of their own:
  // https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_examples.html#lp_example_archive
  for (const isOf of [
    (rule: LifecycleRule) => ACTIONS.some((name) => rule[name] !== undefined),
    (rule: LifecycleRule) => rule.expireArchivedAfterDays !== undefined,
  ])
    refuseCovered(rules, isOf, refuse);
  const many = rules.reduce(
    (sum, rule) =>
      sum + [...ACTIONS, 'expireArchivedAfterDays' as const].filter((name) => rule[name] !== undefined).length,
    0,
  );
  if (many > MAX_RULES) refuse([], `it makes ${many} rules, and a policy of ECR has at most ${MAX_RULES}`);
}

/** Refuses, among rules for images of one storage class, those whose images an earlier rule matches already. */
function refuseCovered(rules: readonly LifecycleRule[], isOf: (rule: LifecycleRule) => boolean, refuse: Refuse): void {
  const before = new Set<string>();
  rules.forEach((rule, index) => {
    if (!isOf(rule)) return;
    const kind = selected(rule);
    if (before.has('all images'))
      refuse([index], 'an earlier rule matches all images, and ECR requires that rule to be last');
    else if (before.has(kind)) refuse([index], `an earlier rule matches ${kind} already`);
    else if (rule.tagged !== undefined && before.has('images tagged *'))
      refuse(
        [index],
        'an earlier rule matches all tagged images, and ECR applies to an image the first rule that matches it',
      );
    before.add(kind);
  });
}

/** The images that a rule is for, in words. */
export function selected({ tagged, untagged }: LifecycleRule): string {
  if (tagged !== undefined) return `images tagged ${tagged}`;
  return untagged === undefined ? 'all images' : 'untagged images';
}
