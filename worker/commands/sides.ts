import { readFileSync } from 'node:fs';
import { Option, type Command } from 'commander';
import { Failure } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import type { ConnectOptions, KeyFlags, SideOptions } from './context.ts';
import { inGroup } from './help.ts';

/** Flags about credentials, and about repositories that have to be created. */
export interface SideFlags {
  readonly srcCreds?: string;
  readonly srcAuthfile?: string;
  readonly srcRole?: string;
  readonly srcExternalId?: string;
  readonly srcTlsVerify?: string;
  readonly srcPlainHttp?: boolean;
  readonly destCreds?: string;
  readonly destAuthfile?: string;
  readonly destRole?: string;
  readonly destExternalId?: string;
  readonly destTlsVerify?: string;
  readonly destPlainHttp?: boolean;
  readonly create?: boolean;
  readonly createSettings?: string;
}

const SIDES = { src: 'source', dest: 'target' } as const;

/** Adds the flags about credentials of `sides`. */
export function withSideFlags(command: Command, sides: readonly (keyof typeof SIDES)[] = ['src', 'dest']): Command {
  for (const side of sides)
    inGroup(command, `The ${SIDES[side]}:`, (grouped) =>
      grouped
        .addOption(
          new Option(
            `--${side}-creds <user:password>`,
            `credentials of the ${SIDES[side]} registry; every user of this machine can see them: prefer --${side}-authfile`,
          ),
        )
        .addOption(new Option(`--${side}-authfile <file>`, `file with credentials of the ${SIDES[side]} registry`))
        .addOption(new Option(`--${side}-role <arn>`, `IAM role to assume for the ${SIDES[side]}, when it is ECR`))
        .addOption(new Option(`--${side}-external-id <id>`, `external id for that role`))
        .addOption(
          new Option(
            `--${side}-tls-verify <true|false>`,
            `false: accept any certificate of the ${SIDES[side]} registry`,
          ).choices(['true', 'false']),
        )
        .addOption(new Option(`--${side}-plain-http`, `use plain HTTP, without TLS, for the ${SIDES[side]} registry`)),
    );
  return command;
}

/** Flags about buckets. */
export interface S3Flags {
  readonly s3PathStyle?: string;
  readonly s3NoConditions?: boolean;
  readonly s3KmsKey?: string;
  readonly s3RequesterPays?: boolean;
}

/** Adds the flags about buckets; of those that are about writing only where the command writes objects. */
export function withS3Flags(command: Command, o: { readonly writes: boolean }): Command {
  return inGroup(command, 'Buckets:', (grouped) => {
    grouped.addOption(
      new Option(
        '--s3-path-style <true|false>',
        'ask for buckets by path or by host name (default: of Amazon by name, of others by path)',
      ).choices(['true', 'false']),
    );
    if (o.writes)
      grouped
        .option(
          '--s3-no-conditions',
          'accept that writers of one key may overwrite each other, where S3 cannot prevent it',
        )
        .option('--s3-kms-key <key>', 'encrypt objects with this KMS key: its id, ARN or alias');
    grouped.option('--s3-requester-pays', 'pay for the requests to buckets whose owner does not');
  });
}

/** Adds the flags about repositories that are missing where images are written. */
export function withCreateFlags(command: Command): Command {
  return inGroup(command, 'New repositories:', (grouped) =>
    grouped
      .option('--no-create', 'fail instead of creating a repository that ECR does not have')
      .option(
        '--create-settings <file>',
        'settings of repositories that are created, as JSON: tagMutability, tagMutabilityExclusions, scanOnPush, encryption {type, key}, tags, lifecyclePolicy, repositoryPolicy; the "settings" of a repository.json too',
      ),
  );
}

/** Adds `--sign-with`, of commands that write snapshots. */
export function withSignFlag(command: Command): Command {
  return command.option(
    '--sign-with <key>',
    'sign the snapshot with this key of AWS KMS: alias/NAME, its id or its ARN; needs kms:Sign and kms:GetPublicKey',
  );
}

/** Adds `--verify-key`, of commands that read snapshots. */
export function withVerifyKeyFlag(command: Command): Command {
  return command.option(
    '--verify-key <key>',
    'trust only snapshots that are signed by this key: alias/NAME, the id or ARN of a key in AWS KMS, or a file with a public key in PEM',
  );
}

export function connectFlags(flags: SideFlags & S3Flags & KeyFlags): Omit<ConnectOptions, 'report'> {
  const source: SideOptions = {
    credentials: flags.srcCreds,
    authFile: flags.srcAuthfile,
    assumeRole: flags.srcRole,
    externalId: flags.srcExternalId,
    tlsVerify: flags.srcTlsVerify === undefined ? undefined : flags.srcTlsVerify === 'true',
    plainHttp: flags.srcPlainHttp,
  };
  const target: SideOptions = {
    credentials: flags.destCreds,
    authFile: flags.destAuthfile,
    assumeRole: flags.destRole,
    externalId: flags.destExternalId,
    tlsVerify: flags.destTlsVerify === undefined ? undefined : flags.destTlsVerify === 'true',
    plainHttp: flags.destPlainHttp,
  };
  const s3 = {
    pathStyle: flags.s3PathStyle === undefined ? undefined : flags.s3PathStyle === 'true',
    noConditions: flags.s3NoConditions,
    kmsKeyId: flags.s3KmsKey,
    requesterPays: flags.s3RequesterPays,
  };
  const snapshotKeys = { signWith: flags.signWith, verifyKey: flags.verifyKey };
  return { source, target, s3, snapshotKeys, create: flags.create, createSettings: readSettings(flags.createSettings) };
}

function readSettings(path: string | undefined): Readonly<Record<string, unknown>> | undefined {
  if (path === undefined) return undefined;
  let settings: unknown;
  try {
    settings = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    const why = cause instanceof SyntaxError ? 'it is not JSON' : 'it cannot be read';
    throw new Failure('INVALID', `--create-settings ${path}: ${why}`, { cause });
  }
  if (isRecord(settings)) return settings;
  throw new Failure('INVALID', `--create-settings ${path}: it is not a JSON object`);
}
