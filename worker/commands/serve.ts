import { readFile } from 'node:fs/promises';
import { Option, type Command } from 'commander';
import { parseImageFilter } from '../oci/image-filter.ts';
import { parsePlace } from '../oci/place.ts';
import type { Readers } from '../serve/authorization.ts';
import { isLoopback, parseListenAddress, type ListenAddress } from '../serve/listen-address.ts';
import { Failure } from '../util/failure.ts';
import { printResult, withCommonFlags, withProgress, type CommandContext, type CommonFlags } from './context.ts';
import { parseTime, withSnapshotFlags, type SnapshotFlags } from './places.ts';
import { concurrencyOf, optionsOf } from './result.ts';
import { connectFlags, withS3Flags, type S3Flags } from './sides.ts';

interface ServeFlags extends CommonFlags, SnapshotFlags, S3Flags {
  readonly listen: string;
  readonly htpasswd?: string;
  readonly tokenFile?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly plainHttp?: boolean;
  readonly redirect?: boolean;
  readonly maxConnections?: number;
}

export function addServe(program: Command, context: CommandContext): void {
  const command = program
    .command('serve')
    .summary('serve a backup as a read-only registry')
    .description(
      'Serves the images of a store or of archives as a registry that is only read, so that docker, podman, skopeo and Kubernetes pull straight from the backup. Each blob is hashed while it is sent: the connection of a damaged one is broken. It runs until it gets SIGINT or SIGTERM, and then lets pulls go on for ten seconds.',
    )
    .argument(
      '<place>',
      'store:s3://bucket/prefix/, store:folder, store:file.tar, or archives: s3://bucket/prefix/, ./folder/',
    )
    .addOption(
      new Option(
        '--listen <host:port>',
        'where to listen; other than loopback only with --htpasswd or --token-file, and with a certificate',
      ).default('127.0.0.1:5000'),
    )
    .option('--htpasswd <file>', 'users that may read, with bcrypt hashes as `htpasswd -B` writes them')
    .option('--token-file <file>', 'tokens that may read, one a line: as Bearer, or as the password of any user')
    .option('--tls-cert <file>', 'certificate chain, PEM')
    .option('--tls-key <file>', 'its private key, PEM')
    .option('--plain-http', 'listen on other addresses without TLS: a proxy in front of it has the certificate')
    .option('--redirect', 'let clients read the blobs of a store in S3 by themselves, by presigned URLs')
    .addOption(
      new Option('--max-connections <n>', 'connections at once (default: 256)').argParser((text) => {
        if (!/^[1-9][0-9]{0,5}$/.test(text))
          throw new Failure('INVALID', '--max-connections is a number from 1 to 999999');
        return Number(text);
      }),
    );
  withS3Flags(withSnapshotFlags(withCommonFlags(command)), { writes: false }).action(
    async (place: string, flags: ServeFlags) => serve(context, place, flags),
  );
}

async function serve(context: CommandContext, text: string, flags: ServeFlags): Promise<void> {
  const place = parsePlace(text);
  const listen = parseListenAddress(flags.listen);
  const readers = await readReaders(flags);
  const tls = await readTls(flags);
  checkExposure(listen, flags, { hasReaders: readers !== undefined, hasTls: tls !== undefined });
  if (flags.redirect === true && !(place.kind === 'store' && 'bucket' in place.root))
    throw new Failure(
      'INVALID',
      `--redirect: ${text} is not a store in S3 (store:s3://bucket/prefix/), so its blobs have no URLs`,
    );
  const [{ openServedPlace }, { serveImages }] = await Promise.all([
    import('../images/serve-place.ts'),
    import('../serve/server.ts'),
  ]);
  const asOfMs = flags.asOf === undefined ? undefined : parseTime(flags.asOf, context.clock.now());
  const only = flags.only?.map(parseImageFilter);
  await withProgress(context, flags, async ({ report }) => {
    await using backends = context.connect({ ...connectFlags(flags), concurrency: concurrencyOf(context, {}), report });
    const options = optionsOf(context, {}, report);
    await using images = await openServedPlace(place, backends, { ...options, snapshot: flags.snapshot, asOfMs, only });
    const { clock, signal } = context;
    const { redirect, maxConnections } = flags;
    const serving = await serveImages(images, {
      listen,
      readers,
      tls,
      redirect,
      maxConnections,
      clock,
      report,
      signal,
    });
    const { url, repositories } = serving;
    const [first = ''] = repositories;
    printResult(
      context,
      flags,
      { url, place: text, repositories: repositories.length },
      () => `serving ${countOf(repositories)} of ${text} on ${url}`,
    );
    report({ type: 'note', message: `pull from ${new URL(url).host}/${first}:TAG; end with Ctrl-C` });
    await serving.ended;
  });
}

function countOf({ length }: readonly string[]): string {
  return `${length} ${length === 1 ? 'repository' : 'repositories'}`;
}

async function readReaders({ htpasswd, tokenFile }: ServeFlags): Promise<Readers | undefined> {
  if (htpasswd === undefined && tokenFile === undefined) return undefined;
  // loaded by this command only, since it takes time
  const [{ parseTokens }, { parseHtpasswd }] = await Promise.all([
    import('../serve/authorization.ts'),
    import('../serve/htpasswd.ts'),
  ]);
  return {
    users:
      htpasswd === undefined ? undefined : parseHtpasswd((await readFlag('--htpasswd', htpasswd)).toString(), htpasswd),
    tokens:
      tokenFile === undefined
        ? undefined
        : parseTokens((await readFlag('--token-file', tokenFile)).toString(), tokenFile),
  };
}

async function readTls({ tlsCert, tlsKey }: ServeFlags): Promise<{ cert: Buffer; key: Buffer } | undefined> {
  if (tlsCert === undefined && tlsKey === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined)
    throw new Failure('INVALID', '--tls-cert and --tls-key are given together: the certificate and its private key');
  return { cert: await readFlag('--tls-cert', tlsCert), key: await readFlag('--tls-key', tlsKey) };
}

/** INVALID where others than this machine could read images without a login, or see passwords on the way. */
function checkExposure(
  { host }: ListenAddress,
  { listen, plainHttp }: ServeFlags,
  { hasReaders, hasTls }: { readonly hasReaders: boolean; readonly hasTls: boolean },
): void {
  if (isLoopback(host)) return;
  if (!hasReaders)
    throw new Failure(
      'INVALID',
      `--listen ${listen}: other machines would read every image without a login; add --htpasswd or --token-file`,
    );
  if (!hasTls && plainHttp !== true)
    throw new Failure(
      'INVALID',
      `--listen ${listen}: passwords would go over the network in the clear; add --tls-cert and --tls-key, or --plain-http where a proxy in front has the certificate`,
    );
}

async function readFlag(flag: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new Failure('INVALID', `${flag} ${path}: it cannot be read`, { cause });
  }
}
