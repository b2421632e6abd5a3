import { posix } from 'node:path';
import { canonicalPolicy, foreignGrants } from '../images/foreign-grants.ts';
import { SETTINGS_NAME } from '../oci/archive-key.ts';
import { ecrHost } from '../oci/ecr-host.ts';
import { parseDestination, type Location } from '../oci/location.ts';
import type { BackupStoreJob, CopyJob, PublishJob, RestoreJob } from '../queue/job.ts';
import { parseAccess } from '../rules/config.ts';
import { AllowedTargets } from '../rules/targets.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import { quote } from '../util/text.ts';
import { readableRules } from './readable-rules.ts';
import type { Service } from './service.ts';

/** What requests may write to, by the stored rules, the stored `allow`, and the settings of this process. */
export async function allowedTargets(
  { state, allow = [] }: Pick<Service, 'state' | 'allow'>,
  options: Abortable,
): Promise<AllowedTargets> {
  const [rules, access] = await Promise.all([readableRules(state.rules, options), state.rules.access(options)]);
  const named = access === undefined ? [] : parseAccess(access.document).allow;
  return new AllowedTargets(rules, [...named, ...allow]);
}

/**
 * The job that a request asks for, as it may be done: its repository policy is rewritten so that it can be read in one way only. A process that
 * may send to the queue is trusted with what rules and settings name, and with nothing else. Without `targets`, every target is accepted.
 *
 * - DENIED: a target is not allowed, or the settings of new repositories give access to other accounts than the target's
 * - INVALID: the repository policy cannot be read, an image has the key of a repository's settings
 */
export function judgeRequest<J extends CopyJob | BackupStoreJob | RestoreJob | PublishJob>(
  job: J,
  targets: AllowedTargets | undefined,
): J {
  let create = 'create' in job ? job.create : undefined;
  for (const to of typeof job.to === 'string' ? [job.to] : job.to) {
    const refusal = targets?.refusal(to);
    if (refusal !== undefined) throw refusal;
    if (job.kind === 'backup-store') continue;
    const location = parseDestination(to);
    if (location.transport === 's3' && posix.basename(location.key) === SETTINGS_NAME) {
      const message = `write to ${to}: the settings of a repository are kept there: name another key`;
      throw new Failure('INVALID', message, { context: { side: 'target' } });
    }
    if (isRecord(create)) create = judgeSettings(create, location, to);
  }
  return create === undefined ? job : { ...job, create };
}

/** The settings, with a repository policy that can be read in one way only. */
function judgeSettings(
  settings: Readonly<Record<string, unknown>>,
  location: Location,
  to: string,
): Readonly<Record<string, unknown>> {
  const account = location.transport === 'docker' ? ecrHost(location.reference.registry)?.account : undefined;
  const accounts = account === undefined ? [] : [account];
  const { encryption, repositoryPolicy: policy } = settings;
  const key = isRecord(encryption) ? encryption['key'] : undefined;
  const foreign = typeof policy === 'string' ? [...foreignGrants(policy, accounts)] : [];
  if (typeof key === 'string' && key.startsWith('arn:') && !accounts.includes(key.split(':')[4] ?? ''))
    foreign.push(key);
  if (foreign.length > 0)
    throw new Failure(
      'DENIED',
      `create the repository of ${to}: the settings of the request give access to ${foreign.map(quote).join(', ')}, outside its account: make a rule with these settings under \`create\``,
      { context: { side: 'target' } },
    );
  return typeof policy === 'string' ? { ...settings, repositoryPolicy: canonicalPolicy(policy) } : settings;
}
