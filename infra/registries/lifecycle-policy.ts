import { ACTIONS, selected, type LifecycleRule } from '../settings/lifecycle-rule.ts';
import type { InfraSettings } from '../settings/schema.ts';

export type RepositorySettings = NonNullable<InfraSettings['registries']>['repositories'][number];

/** Which images ECR deletes from a repository, and when. A setting that is absent deletes nothing. */
export interface Retention {
  /** How many tagged images stay: the youngest ones. */
  readonly keepLast?: number | undefined;
  /** All images are deleted so many days after their push. Takes precedence over `keepLast`. */
  readonly expireAfterDays?: number | undefined;
  readonly untaggedAfterDays?: number | undefined;
  /** Rules in their order. Takes precedence over all other settings. */
  readonly lifecycle?: readonly LifecycleRule[] | undefined;
}

interface Shape extends Retention {
  readonly immutable: boolean;
  readonly scanOnPush: boolean;
}

/** The settings of the two shapes. */
export const SHAPES: Readonly<Record<'production' | 'testing', Shape>> = {
  production: { immutable: true, scanOnPush: true, keepLast: 100, untaggedAfterDays: 1 },
  testing: { immutable: false, scanOnPush: true, expireAfterDays: 7, untaggedAfterDays: 1 },
};

/** The retention of a repository: its own settings, else those of its shape. A repository that existed before has a shape only if it names one. */
export function retentionOf(repository: RepositorySettings): Retention {
  const { existing, shape, keepLast, expireAfterDays, untaggedAfterDays, lifecycle } = repository;
  if (lifecycle !== undefined) return { lifecycle };
  const base: Retention = existing && shape === undefined ? {} : SHAPES[shape ?? 'production'];
  const own = keepLast !== undefined || expireAfterDays !== undefined;
  return {
    keepLast: own ? keepLast : base.keepLast,
    expireAfterDays: own ? expireAfterDays : base.expireAfterDays,
    untaggedAfterDays: untaggedAfterDays ?? base.untaggedAfterDays,
  };
}

/**
 * A lifecycle policy in ECR's JSON; undefined where it would delete nothing.
 *
 * ECR applies to an image the first rule whose tags it matches, whether or not that rule deletes it. So a tagged image has either a number or
 * an age, and the rule for `any` comes last. `keepLast` counts tagged images only: the platforms of an index are untagged images, which would
 * otherwise count as images of their own. ECR keeps what an index refers to for as long as the index, whatever the rule for untagged images.
 * For untagged referrers of an image (OCI 1.1), ECR documents only that they are deleted within a day of the image. The preview shows whether
 * the rule for untagged images spares them until then: see docs/decisions/0005-repositories-that-exist.md. A signature with a tag of its own
 * (`sha256-….sig`) is a tagged image like others: a rule before this one could keep it, but it would still be counted here.
 * https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html
 */
export function lifecyclePolicyText(retention: Retention): string | undefined {
  const rules = retention.lifecycle === undefined ? simpleRules(retention) : retention.lifecycle.flatMap(rulesOf);
  // ECR requires rules for `any` after all others, also those for archived images
  const ordered = [...rules.filter(({ of }) => of !== 'any'), ...rules.filter(({ of }) => of === 'any')];
  return rules.length === 0
    ? undefined
    : JSON.stringify({
        rules: ordered.map(({ description, of, selection, action }, index) => ({
          rulePriority: index + 1,
          description,
          selection: { tagStatus: of, ...selection },
          action,
        })),
      });
}

interface Rule {
  readonly description: string;
  readonly of: 'tagged' | 'untagged' | 'any';
  readonly selection: object;
  readonly action: object;
}

const EXPIRE = { type: 'expire' };
const ARCHIVE = { type: 'transition', targetStorageClass: 'archive' };

function simpleRules({ keepLast, expireAfterDays, untaggedAfterDays }: Retention): readonly Rule[] {
  const rules: Rule[] = [];
  const add = (description: string, of: Rule['of'], selection: object): void => {
    rules.push({ description, of, selection, action: EXPIRE });
  };
  if (untaggedAfterDays !== undefined)
    add(`untagged for ${count(untaggedAfterDays, 'day')}`, 'untagged', olderThan(untaggedAfterDays));
  if (expireAfterDays !== undefined)
    add(`older than ${count(expireAfterDays, 'day')}`, 'any', olderThan(expireAfterDays));
  else if (keepLast !== undefined)
    add(`all but the last ${count(keepLast, 'tagged image')}`, 'tagged', {
      tagPatternList: ['*'],
      ...youngest(keepLast),
    });
  return rules;
}

/** A rule of the settings becomes a rule of ECR for images that are not archived, one for archived images, or both. */
function rulesOf(rule: LifecycleRule): readonly Rule[] {
  const { tagged, untagged, expireArchivedAfterDays: archived } = rule;
  // one pattern only: with several, ECR selects images that match all of them
  const tags = tagged === undefined ? {} : { tagPatternList: [tagged] };
  const common = { of: tagged === undefined ? (untagged === undefined ? 'any' : 'untagged') : 'tagged' } as const;
  const live = ACTIONS.flatMap((name): Rule[] => {
    const number = rule[name];
    if (number === undefined) return [];
    const { what, selection, action } = MEANINGS[name](number);
    return [{ ...common, description: `${selected(rule)}: ${what}`, selection: { ...tags, ...selection }, action }];
  });
  if (archived === undefined) return live;
  const selection = { ...tags, storageClass: 'archive', ...days('sinceImageTransitioned', archived) };
  const description = `${selected(rule)}: deleted ${count(archived, 'day')} after they were archived`;
  return [...live, { ...common, description, selection, action: EXPIRE }];
}

type Meaning = (number: number) => Pick<Rule, 'selection' | 'action'> & { readonly what: string };

const MEANINGS: Readonly<Record<(typeof ACTIONS)[number], Meaning>> = {
  keepLast: (n) => ({ what: `all but the last ${n} deleted`, selection: youngest(n), action: EXPIRE }),
  expireAfterDays: (n) => ({
    what: `deleted ${count(n, 'day')} after their push`,
    selection: olderThan(n),
    action: EXPIRE,
  }),
  archiveAllButLast: (n) => ({ what: `all but the last ${n} archived`, selection: youngest(n), action: ARCHIVE }),
  archiveAfterDays: (n) => ({
    what: `archived ${count(n, 'day')} after their push`,
    selection: olderThan(n),
    action: ARCHIVE,
  }),
  archiveUnpulledAfterDays: (n) => ({
    what: `archived ${count(n, 'day')} after their last pull`,
    selection: days('sinceImagePulled', n),
    action: ARCHIVE,
  }),
};

function olderThan(countNumber: number): object {
  return days('sinceImagePushed', countNumber);
}

function days(countType: string, countNumber: number): object {
  return { countType, countUnit: 'days', countNumber };
}

function youngest(countNumber: number): object {
  return { countType: 'imageCountMoreThan', countNumber };
}

function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`;
}
