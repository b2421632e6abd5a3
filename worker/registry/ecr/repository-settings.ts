import { Failure } from '../../util/failure.ts';
import { quote } from '../../util/text.ts';

type TagMutability = 'MUTABLE' | 'IMMUTABLE' | 'MUTABLE_WITH_EXCLUSION' | 'IMMUTABLE_WITH_EXCLUSION';

/** What a repository of ECR can be set to. Absent: as ECR has it by default, or as it is. */
export interface RepositorySettings {
  readonly tagMutability?: TagMutability | undefined;
  /** Wildcards of tags that are the exception, for the two mutabilities that have any. */
  readonly tagMutabilityExclusions?: readonly string[] | undefined;
  readonly scanOnPush?: boolean | undefined;
  /** Decided when the repository is created, and never again. */
  readonly encryption?: { readonly type: 'AES256' | 'KMS' | 'KMS_DSSE'; readonly key?: string | undefined } | undefined;
  readonly tags?: Readonly<Record<string, string>> | undefined;
  /** JSON. */
  readonly lifecyclePolicy?: string | undefined;
  /** JSON. */
  readonly repositoryPolicy?: string | undefined;
}

const NAMES: ReadonlySet<string> = new Set([
  'tagMutability',
  'tagMutabilityExclusions',
  'scanOnPush',
  'encryption',
  'tags',
  'lifecyclePolicy',
  'repositoryPolicy',
] satisfies readonly (keyof RepositorySettings)[]);

/** Settings out of JSON, such as `settings` gave them. INVALID otherwise. */
export function parseRepositorySettings(value: Readonly<Record<string, unknown>>): RepositorySettings {
  const where = 'the settings of a repository';
  const unknown = Object.keys(value).find((name) => !NAMES.has(name));
  if (unknown !== undefined)
    throw new Failure('INVALID', `${where}: there is no ${quote(unknown)}, but ${[...NAMES].join(', ')}`);
  const text = (name: string): string | undefined => {
    const found = value[name];
    if (found === undefined || typeof found === 'string') return found;
    throw new Failure('INVALID', `${where}: ${name} is ${quote(found)}, not text`);
  };
  const { scanOnPush, tags, encryption, tagMutabilityExclusions } = value;
  const tagMutability = text('tagMutability');
  if (tagMutability !== undefined && !isMutability(tagMutability))
    throw new Failure('INVALID', `${where}: there is no tagMutability ${quote(tagMutability)}`);
  if (scanOnPush !== undefined && typeof scanOnPush !== 'boolean')
    throw new Failure('INVALID', `${where}: scanOnPush is neither true nor false`);
  if (tags !== undefined && !isTexts(tags)) throw new Failure('INVALID', `${where}: tags are not names with text`);
  if (
    tagMutabilityExclusions !== undefined &&
    !(
      Array.isArray(tagMutabilityExclusions) && tagMutabilityExclusions.every((t): t is string => typeof t === 'string')
    )
  )
    throw new Failure('INVALID', `${where}: tagMutabilityExclusions is not a list of text`);
  return {
    tagMutability,
    tagMutabilityExclusions,
    scanOnPush,
    encryption: parseEncryption(encryption, where),
    tags,
    lifecyclePolicy: text('lifecyclePolicy'),
    repositoryPolicy: text('repositoryPolicy'),
  };
}

function parseEncryption(value: unknown, where: string): RepositorySettings['encryption'] {
  if (value === undefined) return undefined;
  const { type, key } = (typeof value === 'object' && value !== null ? value : {}) as Readonly<Record<string, unknown>>;
  if ((type === 'AES256' || type === 'KMS' || type === 'KMS_DSSE') && (key === undefined || typeof key === 'string'))
    return { type, key };
  throw new Failure('INVALID', `${where}: encryption is not {type: AES256, KMS or KMS_DSSE, key}`);
}

function isMutability(text: string): text is TagMutability {
  return ['MUTABLE', 'IMMUTABLE', 'MUTABLE_WITH_EXCLUSION', 'IMMUTABLE_WITH_EXCLUSION'].includes(text);
}

function isTexts(value: unknown): value is Readonly<Record<string, string>> {
  return typeof value === 'object' && value !== null && Object.values(value).every((v) => typeof v === 'string');
}
