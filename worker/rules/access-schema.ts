import { z } from 'zod';
import { ecrHost } from '../oci/ecr-host.ts';
import { isRecord } from '../util/record.ts';
import type { Fault } from './faults.ts';
import type { Access } from './rule.ts';
import { mapping, refusal, textOf } from './schema-parts.ts';
import { expandBraces, parseRegistryHost } from './sources.ts';
import { parseAllowed } from './allowed.ts';

const host = z.string().check((ctx) => {
  const message = refusal(() => expandBraces(ctx.value).forEach(parseRegistryHost));
  if (message !== undefined) ctx.issues.push({ code: 'custom', message, input: ctx.value });
});

const RegistryAccessSchema = mapping({
  secret: z
    .string()
    .regex(/^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+$/, {
      error: 'the ARN of a secret, arn:aws:secretsmanager:<region>:<account>:secret:<name>',
    })
    .optional()
    .describe('Of AWS Secrets Manager: {"username", "password"} or {"username", "accessToken"}.'),
  assumeRole: z
    .string()
    .regex(/^arn:aws[a-z-]*:iam::(?:[0-9]{12}|\{account\}):role\/(?:[A-Za-z0-9/_+=,.@-]|\{account\})+$/, {
      error: 'the ARN of a role, arn:aws:iam::<account>:role/<name>',
    })
    .optional()
    .describe('The role to assume, of an ECR registry. `{account}` stands for the account of the registry.'),
  // https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
  externalId: z
    .string()
    .regex(/^[\w+=,.@:/-]{2,1224}$/, { error: 'an external id as IAM has it' })
    .optional()
    .describe('What the role asks for besides.'),
}).meta({
  oneOf: [{ required: ['secret'] }, { required: ['assumeRole'] }],
  dependencies: { externalId: ['assumeRole'] },
});

export const AccessSchema = z
  .record(host, RegistryAccessSchema)
  .describe(
    'How registries are reached, by host; `{a,b}` in a host stands for either. Others: with what the process has.',
  );

export const AllowSchema = z
  .array(textOf(parseAllowed, 'The host of a registry, `s3://bucket`, or an account whose ECR registries are meant.'))
  .describe('Where requests by hand may write beside what rules write to.');

/** The part of a rules file that is stored beside its rules. */
export const StoredAccessSchema = mapping({ registries: AccessSchema.optional(), allow: AllowSchema.optional() });

/** What is wrong with the access to each registry as a whole. The access to one is checked even where that to another cannot be read. */
export function accessFaults(registries: unknown): readonly Fault[] {
  if (!isRecord(registries)) return [];
  const named = new Set<string>();
  return Object.entries(registries).flatMap(([name, given]) => {
    // a name that cannot be read has a fault of its own
    const hosts = refusal(() => expandBraces(name)) === undefined ? expandBraces(name) : [];
    const again = hosts.find((one) => named.has(one));
    for (const one of hosts) named.add(one);
    const access = RegistryAccessSchema.safeParse(given);
    const messages = [
      again === undefined ? undefined : `it stands for ${again}, which another name stands for too`,
      access.success ? accessFault(hosts, access.data) : undefined,
    ];
    return messages.flatMap((message) => (message === undefined ? [] : [{ path: ['registries', name], message }]));
  });
}

function accessFault(hosts: readonly string[], access: Access[string]): string | undefined {
  const { secret, assumeRole, externalId } = access;
  if (secret === undefined && assumeRole === undefined) return 'expected secret or assumeRole';
  if (secret !== undefined && assumeRole !== undefined)
    return 'secret and assumeRole exclude each other: expected one of them';
  if (assumeRole !== undefined && hosts.some((one) => ecrHost(one) === undefined))
    return 'a role can be assumed for Amazon ECR only: expected secret';
  return externalId !== undefined && assumeRole === undefined ? 'externalId belongs to assumeRole' : undefined;
}
