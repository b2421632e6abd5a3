import { z } from 'zod';
import type { Refuse } from './refuse.ts';
import { days } from './values.ts';

const images = z.int().min(1).max(100_000);

/**
 * What happens to images of one kind, as a rule of ECR's lifecycle policies. A rule has the images that no rule before it has, so the order
 * counts. https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html
 */
export const lifecycleRule = z.strictObject({
  /** Images that have a tag like this. Without it and `untagged`: all images. */
  tagged: z
    .string()
    .regex(/^[\w.*-]{1,128}$/, 'expected a tag, or a pattern such as prod-*')
    .refine((pattern) => pattern.split('*').length <= 5, 'ECR takes four * in a pattern')
    .optional(),
  /** Images without a tag. */
  untagged: z.literal(true, 'expected true: leave it out otherwise').optional(),
  /** How many stay, the youngest; the others are deleted. */
  keepLast: images.optional(),
  /** Deleted so many days after their push. */
  expireAfterDays: days.optional(),
  /** How many stay as they are, the youngest; the others are archived. */
  archiveAllButLast: images.optional(),
  /** Archived so many days after their push. */
  archiveAfterDays: days.optional(),
  /** Archived so many days after their last pull, or their push where there was none. */
  archiveUnpulledAfterDays: days.optional(),
  /** Deleted so many days after they were archived. */
  expireArchivedAfterDays: z
    .int()
    .min(90, 'ECR keeps what it archived for 90 days at the least')
    .max(36_500)
    .optional(),
});

export type LifecycleRule = z.infer<typeof lifecycleRule>;

/** What can happen to images that are not archived. ECR does one of it for a rule. */
export const ACTIONS = [
  'keepLast',
  'expireAfterDays',
  'archiveAllButLast',
  'archiveAfterDays',
  'archiveUnpulledAfterDays',
] as const satisfies readonly (keyof LifecycleRule)[];

/** The most that a policy of ECR has: https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html */
const MAX_RULES = 50;

/** Refuses what ECR would refuse in such rules, and rules that it would never come to, with their place in the list. */
export function checkLifecycle(rules: readonly LifecycleRule[], refuse: Refuse): void {
  if (rules.length === 0) refuse([], 'there is no rule in it: leave it out');
  rules.forEach((rule, index) => {
    const { tagged, untagged, expireArchivedAfterDays } = rule;
    const actions = ACTIONS.filter((name) => rule[name] !== undefined);
    const [first, second] = actions;
    if (tagged !== undefined && untagged !== undefined)
      refuse([index, 'untagged'], 'an image has a tag or has none: take one of tagged and untagged');
    if (first === undefined && expireArchivedAfterDays === undefined)
      refuse([index], `it does nothing: name one of ${ACTIONS.join(', ')}, expireArchivedAfterDays`);
    if (first !== undefined && second !== undefined)
      refuse([index, second], `cannot stand beside ${first}: a rule of ECR does one of the two`);
    if (tagged === undefined && untagged === undefined)
      for (const name of ['keepLast', 'archiveAllButLast'] as const)
        if (rule[name] !== undefined)
          refuse([index, name], "counts the platforms of an index as images of their own: say tagged: '*' beside it");
  });
  // rules of their own hold for archived images:
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
  if (many > MAX_RULES) refuse([], `it makes ${many} rules, and a policy of ECR has ${MAX_RULES} at the most`);
}

/** Of rules for images of one storage class: whatever an earlier one has already. */
function refuseCovered(rules: readonly LifecycleRule[], isOf: (rule: LifecycleRule) => boolean, refuse: Refuse): void {
  const before = new Set<string>();
  rules.forEach((rule, index) => {
    if (!isOf(rule)) return;
    const kind = selected(rule);
    if (before.has('all images')) refuse([index], 'a rule before it has all images, and ECR takes that one last');
    else if (before.has(kind)) refuse([index], `a rule before it has ${kind} already`);
    else if (rule.tagged !== undefined && before.has('images tagged *'))
      refuse(
        [index],
        'a rule before it has all images with a tag, and ECR holds an image to the first that it matches',
      );
    before.add(kind);
  });
}

/** Which images a rule is for, in words. */
export function selected({ tagged, untagged }: LifecycleRule): string {
  if (tagged !== undefined) return `images tagged ${tagged}`;
  return untagged === undefined ? 'all images' : 'untagged images';
}
