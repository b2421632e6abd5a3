import { Option, type Command } from 'commander';
import { parseRegistryHost } from '../rules/sources.ts';
import { Failure } from '../util/failure.ts';
import { printResult, withCommonFlags, type CommandContext, type CommonFlags } from './context.ts';

interface LoginFlags extends CommonFlags {
  readonly username?: string;
  readonly passwordStdin?: boolean;
  readonly authfile?: string;
  readonly tlsVerify?: string;
  readonly plainHttp?: boolean;
}

/** Longer than any password or token. */
const MOST_PASSWORD_BYTES = 64 * 1024;
const AUTH_FILE = 'the file, instead of that of docker or $REGISTRY_AUTH_FILE';

export function addLogin(program: Command, context: CommandContext): void {
  const command = program
    .command('login')
    .summary('store credentials for a registry, as docker login does')
    .description(
      'Asks the registry whether it takes the credentials, then stores them where docker and podman find them too: in ~/.docker/config.json or the file that $REGISTRY_AUTH_FILE names, or with the credential helper that the file names. Asks for what the flags leave out at a terminal, and does not show the password. ECR needs no login: it takes the credentials of the AWS SDK.',
    )
    .argument('<registry>', 'the host of a registry, such as ghcr.io; docker.io is Docker Hub')
    .option('-u, --username <name>', 'the name of the user; required without a terminal to ask at')
    .option('--password-stdin', 'read the password or token from standard input; required without a terminal to ask at')
    .option('--authfile <file>', AUTH_FILE)
    .addOption(
      new Option('--tls-verify <true|false>', 'false: accept any certificate of the registry').choices([
        'true',
        'false',
      ]),
    )
    .option('--plain-http', 'use plain HTTP, without TLS');
  withCommonFlags(command).action(async (registry: string, flags: LoginFlags) => {
    const host = parseRegistryHost(registry);
    const { authfile: authFile, tlsVerify, plainHttp } = flags;
    const { username, password } = await credentialsFor(host, flags, context);
    const result = await context.login({
      host,
      username,
      password,
      authFile,
      tlsVerify: tlsVerify === undefined ? undefined : tlsVerify === 'true',
      plainHttp,
    });
    const { file, helper, checked, hidden } = result;
    if (!checked) context.stderr.write(`warning: ${host} did not ask for credentials, and did not check them\n`);
    if (hidden)
      context.stderr.write(
        `warning: another file has credentials for ${host} that are used first: run \`transship logout ${host}\`, then log in again\n`,
      );
    printResult(context, flags, { registry: host, username, file, helper, checked }, () =>
      helper === undefined
        ? `logged in to ${host} as ${username}: stored in ${file}`
        : `logged in to ${host} as ${username}: stored by docker-credential-${helper}`,
    );
  });
}

/** The name and the password: those of the flags, otherwise what the person at the terminal types. */
async function credentialsFor(
  host: string,
  flags: LoginFlags,
  context: CommandContext,
): Promise<{ readonly username: string; readonly password: string }> {
  const { ask } = context;
  const missing = [
    ...(flags.username === undefined ? ['--username NAME'] : []),
    ...(flags.passwordStdin === true ? [] : ['--password-stdin']),
  ];
  if (ask === undefined && missing.length > 0)
    throw new Failure('INVALID', `log in to ${host}: there is no terminal to ask at: pass ${missing.join(' and ')}`);
  const username = flags.username ?? (await ask?.('User name: '))?.trim() ?? '';
  if (username === '' || username.includes(':'))
    throw new Failure('INVALID', 'the name of a user is not empty and has no ":"');
  if (flags.passwordStdin === true) return { username, password: await pipedPassword(username, context) };
  const password = (await ask?.('Password or token: ', { hidden: true })) ?? '';
  if (password === '') throw new Failure('INVALID', `log in to ${host}: no password was given: type it`);
  return { username, password };
}

/** The user of Google's registries whose password is a file of JSON: https://cloud.google.com/artifact-registry/docs/docker/authentication#json-key */
const JSON_KEY_USER = '_json_key';

async function pipedPassword(username: string, context: CommandContext): Promise<string> {
  const password = (await context.standardInput(MOST_PASSWORD_BYTES)).replace(/\r?\n$/, '');
  if (password === '') throw new Failure('INVALID', 'read the password: standard input is empty');
  // most often a whole file was piped by mistake
  if (username !== JSON_KEY_USER && /[\r\n]/.test(password))
    throw new Failure('INVALID', 'read the password: standard input has more than one line: pass the password alone');
  return password;
}

export function addLogout(program: Command, context: CommandContext): void {
  const command = program
    .command('logout')
    .summary('remove the stored credentials for a registry')
    .description(
      'Removes the credentials for a registry from the files of docker and podman, and from the credential helpers that these name.',
    )
    .argument('<registry>', 'the host of a registry')
    .option('--authfile <file>', AUTH_FILE);
  withCommonFlags(command).action(async (registry: string, flags: LoginFlags) => {
    const host = parseRegistryHost(registry);
    const removed = await context.logout({ host, authFile: flags.authfile });
    printResult(context, flags, { registry: host, removed }, () =>
      removed.length === 0
        ? `there were no credentials for ${host}`
        : removed
            .map(({ file, helper }) =>
              helper === undefined
                ? `removed the credentials for ${host} from ${file}`
                : `removed the credentials for ${host} from docker-credential-${helper}`,
            )
            .join('\n'),
    );
  });
}
