import { z } from 'zod';
import { isPattern, matchesPattern, parseS3 } from '../oci/location.ts';
import { MAX_COUNT, type Policy } from '../retention/policy.ts';
import { DELETING, POLICY_KEYS, ruleFaultsOf } from './prune-policy.ts';
import { mapping, someOf, textOf } from './schema-parts.ts';
import { parseRange, tagMatcher } from '../oci/tag-pattern.ts';
import { parseSource } from './sources.ts';
import { isStore, parseStore } from './stores.ts';

/** The keys of a policy that choose snapshots of a store. */
const SNAPSHOT_RULES = ['keepLast', 'keepDays', 'keepDaily', 'keepWeekly', 'keepMonthly', 'keepYearly'] as const;

const count = z.int().min(1).max(MAX_COUNT);
const patterns = someOf(textOf(tagMatcher, 'A glob such as `pr-*`, or a `/regular expression/`.'));

/** The keys of one policy. docs/prune.md explains each. */
const POLICY = {
  untaggedAfterDays: count.optional().describe('Deletes images without a tag that are older.'),
  keepLast: count.optional().describe('Keeps the N newest images; of archives, the N newest backups of each image.'),
  keepDays: count.optional().describe('Keeps what is younger.'),
  expireAfterDays: count.optional().describe('Deletes what is older, whatever the other rules by time keep.'),
  keepDaily: count.optional().describe('Keeps the newest of each of the last N days that have any.'),
  keepWeekly: count.optional().describe('Keeps the newest of each of the last N weeks that have any.'),
  keepMonthly: count.optional().describe('Keeps the newest of each of the last N months that have any.'),
  keepYearly: count.optional().describe('Keeps the newest of each of the last N years that have any.'),
  keepTags: patterns.optional().describe('Always keeps these tags.'),
  keepSemver: textOf(parseRange, 'A range of versions as npm has it: `>=2`.')
    .optional()
    .describe('Always keeps these.'),
  deleteTags: patterns.optional().describe('Deletes only images whose tags all match. Default: all tagged images.'),
  notPulledForDays: count.optional().describe('Keeps what was pulled since. Amazon ECR only.'),
};

const PolicySchema = mapping({
  repositories: someOf(textOf(checkNames, 'Names of repositories, with `*` and `{a,b}`.')).describe(
    'Which repositories. The first policy that matches decides; without one everything is kept.',
  ),
  ...POLICY,
}).check((ctx) => {
  for (const { path, message } of ruleFaultsOf(ctx.value))
    ctx.issues.push({ code: 'custom', message, input: ctx.value, path: [...path] });
});

/** A rule's `prune`: where, one policy or several, and its limits. */
export const PruneSchema = mapping({
  at: someOf(textOf(checkPlace, 'host/repositories*, s3://bucket/prefix/ or store:s3://bucket/prefix/')).describe(
    'Where to delete.',
  ),
  ...POLICY,
  policies: z.array(PolicySchema).min(1).optional().describe('Policies by repository, where one is not enough.'),
  requireBackup: textOf(parseS3, 's3://bucket/prefix/')
    .meta({ pattern: '^s3://' })
    .optional()
    .describe('Deletes only images that a rule has backed up there.'),
  maxDeletes: count.default(1000).describe('The most that one run deletes.'),
  dryRun: z.boolean().default(false).describe('Only logs what would be deleted.'),
})
  .check((ctx) => {
    const { policies } = ctx.value;
    const fault = (message: string, path: readonly PropertyKey[] = []): void =>
      void ctx.issues.push({ code: 'custom', message, input: ctx.value, path: [...path] });
    const stores = ctx.value.at.filter(isStore);
    if (stores.length > 0) {
      if (stores.length < ctx.value.at.length)
        fault('it names stores and other places: expected a rule for each', ['at']);
      const flat: Readonly<Record<string, unknown>> = ctx.value;
      const other = [...POLICY_KEYS, 'policies', 'requireBackup'].find(
        (name) => flat[name] !== undefined && !SNAPSHOT_RULES.some((rule) => rule === name),
      );
      if (other !== undefined)
        fault(
          `it is for images, and "at" names a store: expected ${SNAPSHOT_RULES.join(', ')}, which choose snapshots`,
          [other],
        );
    }
    if (policies === undefined) {
      for (const { path, message } of ruleFaultsOf(ctx.value)) fault(message, path);
      return;
    }
    const flat: Policy = ctx.value;
    const both = POLICY_KEYS.find((name) => flat[name] !== undefined);
    if (both !== undefined)
      fault(`it has policies and ${both}: expected one of them; what holds for all goes into each policy`);
    const all = policies.findIndex(({ repositories }) => repositories.includes('*'));
    if (all !== -1 && all < policies.length - 1)
      fault(`it is never used: policies[${all}] is for all repositories`, ['policies', all + 1]);
  })
  .meta({
    anyOf: ['policies', ...DELETING].map((name) => ({ required: [name] })),
  });

function checkPlace(text: string): void {
  if (isStore(text)) parseStore(text);
  else if (text.startsWith('s3://')) parseS3(text);
  else parseSource(text);
}

/** INVALID for what is not a pattern. */
function checkNames(text: string): void {
  if (isPattern(text)) matchesPattern(text, '');
}
