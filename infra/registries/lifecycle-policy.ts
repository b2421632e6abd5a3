import type { InfraSettings } from '../settings/schema.ts';

export type RepositorySettings = NonNullable<InfraSettings['registries']>['repositories'][number];

/** What goes from a repository by itself, and when. Nothing that is absent. */
export interface Retention {
  /** Tagged images that stay, the youngest ones. */
  readonly keepLast?: number | undefined;
  /** All images go so long after their push. Takes the place of `keepLast`. */
  readonly expireAfterDays?: number | undefined;
  readonly untaggedAfterDays?: number | undefined;
}

interface Shape extends Retention {
  readonly immutable: boolean;
  readonly scanOnPush: boolean;
}

/** What settings mean by the two shapes. */
export const SHAPES: Readonly<Record<'production' | 'testing', Shape>> = {
  production: { immutable: true, scanOnPush: true, keepLast: 100, untaggedAfterDays: 1 },
  testing: { immutable: false, scanOnPush: false, expireAfterDays: 7, untaggedAfterDays: 1 },
};

/** The retention of a repository: what it says itself, else that of its shape. One that exists has a shape only when it names one. */
export function retentionOf(repository: RepositorySettings): Retention {
  const { existing, shape, keepLast, expireAfterDays, untaggedAfterDays } = repository;
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
export function lifecyclePolicyText({ keepLast, expireAfterDays, untaggedAfterDays }: Retention): string | undefined {
  const rules: object[] = [];
  const add = (description: string, selection: object): void => {
    rules.push({ rulePriority: rules.length + 1, description, selection, action: { type: 'expire' } });
  };
  if (untaggedAfterDays !== undefined)
    add(`untagged for ${count(untaggedAfterDays, 'day')}`, { tagStatus: 'untagged', ...olderThan(untaggedAfterDays) });
  if (expireAfterDays !== undefined)
    add(`older than ${count(expireAfterDays, 'day')}`, { tagStatus: 'any', ...olderThan(expireAfterDays) });
  else if (keepLast !== undefined)
    add(`all but the last ${count(keepLast, 'tagged image')}`, {
      tagStatus: 'tagged',
      tagPatternList: ['*'],
      countType: 'imageCountMoreThan',
      countNumber: keepLast,
    });
  return rules.length === 0 ? undefined : JSON.stringify({ rules });
}

function olderThan(countNumber: number): object {
  return { countType: 'sinceImagePushed', countUnit: 'days', countNumber };
}

function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`;
}
