import { Option, type Command } from 'commander';
import type { ConnectOptions, SideOptions } from './context.ts';

/** Flags about credentials, and about repositories that have to be created. */
export interface SideFlags {
  readonly srcCreds?: string;
  readonly srcAuthfile?: string;
  readonly srcRole?: string;
  readonly srcExternalId?: string;
  readonly destCreds?: string;
  readonly destAuthfile?: string;
  readonly destRole?: string;
  readonly destExternalId?: string;
  readonly create?: boolean;
  readonly createImmutable?: boolean;
}

const SIDES = { src: 'source', dest: 'target' } as const;

/** Adds the flags of `sides`; those of the target bring the ones about creating repositories. */
export function withSideFlags(command: Command, sides: readonly (keyof typeof SIDES)[] = ['src', 'dest']): Command {
  for (const side of sides) {
    command
      .addOption(new Option(`--${side}-creds <user:password>`, `credentials of the ${SIDES[side]} registry`))
      .addOption(new Option(`--${side}-authfile <file>`, `file with credentials of the ${SIDES[side]} registry`))
      .addOption(new Option(`--${side}-role <arn>`, `IAM role to assume for the ${SIDES[side]}, when it is ECR`))
      .addOption(new Option(`--${side}-external-id <id>`, `external id for that role`));
  }
  if (sides.includes('dest')) {
    command
      .option('--no-create', 'fail instead of creating a repository that ECR does not have')
      .option('--create-immutable', 'make tags of created repositories immutable');
  }
  return command;
}

export function connectFlags(flags: SideFlags): Omit<ConnectOptions, 'report'> {
  const source: SideOptions = {
    credentials: flags.srcCreds,
    authFile: flags.srcAuthfile,
    assumeRole: flags.srcRole,
    externalId: flags.srcExternalId,
  };
  const target: SideOptions = {
    credentials: flags.destCreds,
    authFile: flags.destAuthfile,
    assumeRole: flags.destRole,
    externalId: flags.destExternalId,
  };
  return { source, target, create: flags.create, createImmutable: flags.createImmutable };
}
