import { z } from 'zod';
import { Failure } from '../../util/failure.ts';
import { messageOf } from '../../util/schema-faults.ts';
import { quote } from '../../util/text.ts';

const text = z.string().min(1);
const tag = z.strictObject({ Key: text, Value: z.string() });
const mutability = z.enum(['MUTABLE', 'IMMUTABLE', 'MUTABLE_WITH_EXCLUSION', 'IMMUTABLE_WITH_EXCLUSION']);

const replicationRule = z.strictObject({
  destinations: z.array(z.strictObject({ region: text, registryId: text })),
  repositoryFilters: z.array(z.strictObject({ filter: z.string(), filterType: z.enum(['PREFIX_MATCH']) })).optional(),
});

const scanning = z.strictObject({
  scanType: z.enum(['BASIC', 'ENHANCED']),
  rules: z.array(
    z.strictObject({
      scanFrequency: z.enum(['SCAN_ON_PUSH', 'CONTINUOUS_SCAN', 'MANUAL']),
      repositoryFilters: z.array(z.strictObject({ filter: text, filterType: z.enum(['WILDCARD']) })),
    }),
  ),
});

const creationTemplate = z.strictObject({
  prefix: text,
  description: z.string().optional(),
  encryptionConfiguration: z
    .strictObject({ encryptionType: z.enum(['AES256', 'KMS', 'KMS_DSSE']), kmsKey: text.optional() })
    .optional(),
  resourceTags: z.array(tag).optional(),
  imageTagMutability: mutability.optional(),
  imageTagMutabilityExclusionFilters: z
    .array(z.strictObject({ filter: text, filterType: z.enum(['WILDCARD']) }))
    .optional(),
  repositoryPolicy: text.optional(),
  lifecyclePolicy: text.optional(),
  appliedFor: z.array(z.enum(['CREATE_ON_PUSH', 'PULL_THROUGH_CACHE', 'REPLICATION'])),
  customRoleArn: text.optional(),
});

const pullThroughCacheRule = z.strictObject({
  ecrRepositoryPrefix: text,
  upstreamRegistryUrl: text,
  upstreamRegistry: text.optional(),
  upstreamRepositoryPrefix: text.optional(),
  // of the secret, which stays where it is
  credentialArn: text.optional(),
  customRoleArn: text.optional(),
});

const signingRule = z.strictObject({
  signingProfileArn: text,
  repositoryFilters: z.array(z.strictObject({ filter: text, filterType: z.enum(['WILDCARD_MATCH']) })).optional(),
});

const schema = z.strictObject({
  replication: z.array(replicationRule).optional(),
  scanning: scanning.optional(),
  repositoryCreationTemplates: z.array(creationTemplate).optional(),
  pullThroughCacheRules: z.array(pullThroughCacheRule).optional(),
  signing: z.array(signingRule).optional(),
  registryPolicy: text.optional(),
  accountSettings: z.record(text, text).optional(),
  pullTimeUpdateExclusions: z.array(text).optional(),
  unread: z.record(text, text).optional(),
});

/**
 * What a registry of ECR is set to as a whole, an account in a Region. The values have the shapes of ECR's API, so that the AWS CLI takes them.
 * A member is absent where the registry has nothing of it, or where it could not be read: then `unread` names it with the reason.
 */
export type RegistrySettings = z.infer<typeof schema>;

/** Settings out of JSON, such as `readRegistrySettings` gave them. INVALID otherwise. */
export function parseRegistrySettings(value: Readonly<Record<string, unknown>>): RegistrySettings {
  const { success, data, error } = schema.safeParse(value);
  if (success) return data;
  const [issue] = error.issues;
  const where = issue === undefined || issue.path.length === 0 ? '' : `${quote(issue.path.join('.'))}: `;
  const message = issue === undefined ? 'not settings' : messageOf(issue, { object: 'an object', record: 'an object' });
  throw new Failure('INVALID', `the settings of a registry: ${where}${message}`);
}
