import { ACTIONS, selected, type LifecycleRule } from '../settings/lifecycle-rule.ts';
import type { InfraSettings } from '../settings/schema.ts';

export type RepositorySettings = NonNullable<InfraSettings['registries']>['repositories'][number];

/** What goes from a repository by itself, and when. Nothing that is absent. */
export interface Retention {
  /** Tagged images that stay, the youngest ones. */
  readonly keepLast?: number | undefined;
  /** All images go so long after their push. Takes the place of `keepLast`. */
  readonly expireAfterDays?: number | undefined;
  readonly untaggedAfterDays?: number | undefined;
  /** Rules in their order. Takes the place of all the others. */
  readonly lifecycle?: readonly LifecycleRule[] | undefined;
}

interface Shape extends Retention {
  readonly immutable: boolean;
  readonly scanOnPush: boolean;
}

/** What settings mean by the two shapes. */
export const SHAPES: Readonly<Record<'production' | 'testing', Shape>> = {
  production: { immutable: true, scanOnPush: true, keepLast: 100, untaggedAfterDays: 1 },
  testing: { immutable: false, scanOnPush: true, expireAfterDays: 7, untaggedAfterDays: 1 },
};

/** The retention of a repository: what it says itself, else that of its shape. One that exists has a shape only when it names one. */
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
 * A lifecycle policy as ECR reads it; undefined where nothing is to go.
 *
 * ECR holds an image to the first rule whose tags it matches, whether or not that rule lets it go: so a tagged image has either a number or an
 * age, and the rule for `any` comes last. Only images with a tag are counted: the platforms of an index, which are untagged images too,
 * would otherwise make three images of one. ECR keeps what an index refers to for as long as the index, whatever the rule for untagged ones.
 * Of what refers to an image (OCI 1.1) and has no tag it says only that it goes within a day of the image: that the rule for untagged ones
 * spares it until then is for the preview to show, see docs/decisions/0005-repositories-that-exist.md. A signature with a tag of its own
 * (`sha256-….sig`) is a tagged image like others: a rule before this one would keep it, and it would be counted here all the same.
 * https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html
 */
export function lifecyclePolicyText(retention: Retention): string | undefined {
  const rules = retention.lifecycle === undefined ? simpleRules(retention) : retention.lifecycle.flatMap(rulesOf);
  // whatever else there is, also of archived images
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

/** One rule of the settings is one of ECR for images that are not archived, one for those that are, or both. */
function rulesOf(rule: LifecycleRule): readonly Rule[] {
  const { tagged, untagged, expireArchivedAfterDays: archived } = rule;
  // a pattern by itself: ECR takes several for tags that an image has all of
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
