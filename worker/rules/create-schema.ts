import { z } from 'zod';
import { Failure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { quote } from '../util/text.ts';
import { mapping, textOf, withoutAbsent } from './schema-parts.ts';

const json = (what: string) =>
  z
    .union([z.record(z.string(), z.unknown()), textOf(parseJsonObject, `${what} as JSON text.`)], {
      error: `${what} as a mapping, or as JSON text`,
    })
    .transform((value) => (typeof value === 'string' ? value : JSON.stringify(value)));

const ENCRYPTIONS = ['AES256', 'KMS', 'KMS_DSSE'] as const;
const MUTABILITIES = ['MUTABLE', 'IMMUTABLE', 'MUTABLE_WITH_EXCLUSION', 'IMMUTABLE_WITH_EXCLUSION'] as const;

/** Settings of repositories that are created. Takes the names of the rules file and those of `repository.json`; gives the latter. */
export const CreateSchema = z.union(
  [
    z.boolean().transform((create) => (create ? undefined : (false as const))),
    mapping({
      immutable: z
        .union([z.boolean(), mapping({ except: patternsOfEcr() })], {
          error: 'true, false, or {except: [wildcards of tags]}',
        })
        .optional()
        .describe('Whether tags stay what they are.'),
      scan: z.boolean().optional().describe('Whether images are scanned when they are pushed.'),
      encryption: z
        .union(
          [
            z.enum(ENCRYPTIONS).transform((type) => ({ type, key: undefined })),
            mapping({ type: z.enum(ENCRYPTIONS), key: z.string().min(1).optional() }),
          ],
          { error: 'AES256, KMS, KMS_DSSE, or {type, key}' },
        )
        .optional(),
      tags: z.record(z.string(), z.string()).optional().describe('Tags of the repository as an AWS resource.'),
      lifecycle: json('a lifecycle policy of ECR').optional(),
      policy: json('a repository policy').optional(),
      tagMutability: z.enum(MUTABILITIES).optional(),
      tagMutabilityExclusions: patternsOfEcr().optional(),
      scanOnPush: z.boolean().optional(),
      lifecyclePolicy: json('a lifecycle policy of ECR').optional(),
      repositoryPolicy: json('a repository policy').optional(),
    })
      .check((ctx) => {
        for (const [a, b] of SYNONYMS) {
          if (ctx.value[a] === undefined || ctx.value[b] === undefined) continue;
          const message = `${a} and ${b} are one setting: expected one of them`;
          ctx.issues.push({ code: 'custom', message, input: ctx.value, path: [b] });
        }
        const { tagMutability, tagMutabilityExclusions } = ctx.value;
        if (tagMutability?.endsWith('_WITH_EXCLUSION') === true && tagMutabilityExclusions === undefined) {
          const message = `${quote(tagMutability)} needs tagMutabilityExclusions`;
          ctx.issues.push({ code: 'custom', message, input: ctx.value, path: ['tagMutability'] });
        }
      })
      .transform((settings) => {
        const { immutable } = settings;
        const except = typeof immutable === 'object' ? immutable.except : undefined;
        return withoutAbsent({
          tagMutability:
            immutable === undefined
              ? settings.tagMutability
              : except !== undefined
                ? 'IMMUTABLE_WITH_EXCLUSION'
                : immutable === true
                  ? 'IMMUTABLE'
                  : 'MUTABLE',
          tagMutabilityExclusions: except ?? settings.tagMutabilityExclusions,
          scanOnPush: settings.scan ?? settings.scanOnPush,
          encryption: settings.encryption === undefined ? undefined : withoutAbsent(settings.encryption),
          tags: settings.tags,
          lifecyclePolicy: settings.lifecycle ?? settings.lifecyclePolicy,
          repositoryPolicy: settings.policy ?? settings.repositoryPolicy,
        });
      }),
  ],
  { error: 'true, false, or a mapping of settings' },
);

const SYNONYMS = [
  ['immutable', 'tagMutability'],
  ['immutable', 'tagMutabilityExclusions'],
  ['scan', 'scanOnPush'],
  ['lifecycle', 'lifecyclePolicy'],
  ['policy', 'repositoryPolicy'],
] as const;

function patternsOfEcr() {
  // https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageTagMutabilityExclusionFilter.html
  return z
    .array(z.string().regex(/^[0-9A-Za-z._*-]{1,128}$/, { error: 'tags with "*" for any characters' }))
    .min(1)
    .max(5)
    .transform((list): readonly string[] => list);
}

function parseJsonObject(text: string): void {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  if (!isRecord(value)) throw new Failure('INVALID', `${quote(text)} is not a JSON object`);
}
