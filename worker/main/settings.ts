import { join } from 'node:path';
import type { BucketSettings } from '../objects/s3/client.ts';
import { withoutSecrets } from '../oci/reference.ts';
import type { LogLevel } from '../telemetry/logs.ts';
import { parseAllowed } from '../rules/allowed.ts';
import { Failure, toFailure } from '../util/failure.ts';
import type { Proxies } from '../util/proxies.ts';
import { quote } from '../util/text.ts';

/** The settings in the environment. The AWS SDK reads its own variables, of which only that of `fips` is repeated here. */
export interface Settings {
  /** The addresses at which registries answer, by host. */
  readonly endpoints: ReadonlyMap<string, string>;
  /** Files with registry credentials, the first that knows a registry decides. Those that do not exist are passed over. */
  readonly authFiles: readonly string[];
  /** The file that was asked for by name: it must exist. */
  readonly requiredAuthFile: string | undefined;
  /** Docker's own file, where a login is stored. Undefined without a home folder. */
  readonly dockerConfigFile: string | undefined;
  /** `certs.d` folders, the first that has a folder for a registry decides. */
  readonly certificateFolders: readonly string[];
  /** The HTTP proxies, and the hosts that are reached without them. */
  readonly proxies: Proxies;
  /** Whether AWS is reached at FIPS endpoints. The SDK reads the same variable, but does not know the hosts of registries. */
  readonly fips: boolean;
  /** How buckets are reached, and how objects are stored in them. */
  readonly s3: BucketSettings;
  /** Blobs at once; absent: the default. */
  readonly concurrency: number | undefined;
  /** The job queue of the deployed system. Only commands that need it fail without it. */
  readonly queueUrl: string | undefined;
  /** The queue of requests by hand; absent: they are in the queue of jobs. */
  readonly requestQueueUrl: string | undefined;
  readonly deadLetterQueueUrl: string | undefined;
  readonly table: string | undefined;
  /** What requests by hand may write to beside what rules name, each as `parseAllowed` returns it; absent: not known. */
  readonly allow: readonly string[] | undefined;
  /** Jobs at once of one worker. Default 2. */
  readonly slots: number;
  /** How long a message belongs to one worker at a time: after that, another worker goes on with the job of a crashed one. Default 120. */
  readonly visibilitySeconds: number;
  /** By how much the clocks of two workers may differ: the leases of a crashed one expire later by this much. Default 60. */
  readonly clockSkewSeconds: number;
  /** How often a planner asks for each tag of a destination in a registry other than ECR. Default 24. */
  readonly lookEveryHours: number;
  /** Pushes to one repository within this time are planned by one run. Default 30. */
  readonly pushWindowSeconds: number;
  /** The least level that the worker and the planner log. Default `info`. */
  readonly logLevel: LogLevel;
  /** The port on loopback on which a worker reports its health; absent: it does not. */
  readonly healthPort: number | undefined;
  /** The endpoint of the ECS container agent, which sets it. */
  readonly ecsAgentUri: string | undefined;
  /** The ARN of the ECS service that runs the workers. */
  readonly workerService: string | undefined;
  /** The queue of large jobs; absent: all workers are alike. */
  readonly largeQueueUrl: string | undefined;
  /** Copies of images above this size are large jobs. Default 10 GiB. */
  readonly largeAboveBytes: number;
  /** The ARN of the ECS service that runs the large workers. */
  readonly largeWorkerService: string | undefined;
}

const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

type Environment = Readonly<Record<string, string | undefined>>;

/** Reads the environment of a process of the user `uid`. INVALID, naming the variable, for a malformed value. */
export function readSettings(env: Environment, uid: number | undefined = process.getuid?.()): Settings {
  const required = text(env, 'REGISTRY_AUTH_FILE');
  const docker = dockerFolder(env);
  return {
    endpoints: readEndpoints(text(env, 'TRANSSHIP_REGISTRY_ENDPOINTS') ?? ''),
    authFiles: required === undefined ? authFilesOf(env, uid) : [required],
    requiredAuthFile: required,
    dockerConfigFile: docker === undefined ? undefined : join(docker, 'config.json'),
    certificateFolders: certificateFoldersOf(env),
    proxies: readProxies(env),
    fips: readFlag(env, 'AWS_USE_FIPS_ENDPOINT') ?? false,
    s3: {
      pathStyle: readFlag(env, 'TRANSSHIP_S3_PATH_STYLE'),
      noConditions: readFlag(env, 'TRANSSHIP_S3_NO_CONDITIONS'),
      kmsKeyId: text(env, 'TRANSSHIP_S3_KMS_KEY'),
      requesterPays: readFlag(env, 'TRANSSHIP_S3_REQUESTER_PAYS'),
    },
    concurrency: readCount(env, 'TRANSSHIP_CONCURRENCY', 64),
    queueUrl: readQueueUrl(env, 'TRANSSHIP_QUEUE_URL'),
    requestQueueUrl: readQueueUrl(env, 'TRANSSHIP_REQUEST_QUEUE_URL'),
    deadLetterQueueUrl: readQueueUrl(env, 'TRANSSHIP_DEAD_LETTER_QUEUE_URL'),
    table: text(env, 'TRANSSHIP_TABLE'),
    allow: readAllow(env),
    slots: readCount(env, 'TRANSSHIP_SLOTS', 64) ?? 2,
    visibilitySeconds: readCount(env, 'TRANSSHIP_VISIBILITY_SECONDS', 600, 10) ?? 120,
    clockSkewSeconds: readCount(env, 'TRANSSHIP_CLOCK_SKEW_SECONDS', 600, 0) ?? 60,
    lookEveryHours: readCount(env, 'TRANSSHIP_LOOK_EVERY_HOURS', 720, 0) ?? 24,
    pushWindowSeconds: readCount(env, 'TRANSSHIP_PUSH_WINDOW_SECONDS', 300, 0) ?? 30,
    logLevel: readLogLevel(text(env, 'TRANSSHIP_LOG_LEVEL')),
    healthPort: readCount(env, 'TRANSSHIP_HEALTH_PORT', 65_535),
    ecsAgentUri: text(env, 'ECS_AGENT_URI'),
    workerService: text(env, 'TRANSSHIP_SERVICE'),
    largeQueueUrl: readQueueUrl(env, 'TRANSSHIP_LARGE_QUEUE_URL'),
    largeAboveBytes: (readCount(env, 'TRANSSHIP_LARGE_ABOVE_GIB', 100_000) ?? 10) * 1024 ** 3,
    largeWorkerService: text(env, 'TRANSSHIP_LARGE_SERVICE'),
  };
}

/** Where `podman login`, `skopeo login` and `docker login` write: https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md */
function authFilesOf(env: Environment, uid: number | undefined): readonly string[] {
  const runtime = text(env, 'XDG_RUNTIME_DIR') ?? (uid === undefined ? undefined : `/run/containers/${uid}`);
  // /run/containers is for containers alone, $XDG_RUNTIME_DIR is not
  const inRuntime = text(env, 'XDG_RUNTIME_DIR') === undefined ? ['auth.json'] : ['containers', 'auth.json'];
  const places: readonly (readonly [string | undefined, ...string[]])[] = [
    [runtime, ...inRuntime],
    [configFolder(env), 'containers', 'auth.json'],
    [dockerFolder(env), 'config.json'],
    [text(env, 'HOME'), '.dockercfg'],
  ];
  return places.flatMap(([folder, ...rest]) => (folder === undefined ? [] : [join(folder, ...rest)]));
}

/** The folders of podman and skopeo (https://github.com/containers/image/blob/main/docs/containers-certs.d.5.md), and those of docker. */
function certificateFoldersOf(env: Environment): readonly string[] {
  const config = configFolder(env);
  const docker = dockerFolder(env);
  return [
    ...(config === undefined ? [] : [join(config, 'containers', 'certs.d'), join(config, 'docker', 'certs.d')]),
    ...(docker === undefined ? [] : [join(docker, 'certs.d')]),
    '/etc/containers/certs.d',
    '/etc/docker/certs.d',
  ];
}

function configFolder(env: Environment): string | undefined {
  const home = text(env, 'HOME');
  return text(env, 'XDG_CONFIG_HOME') ?? (home === undefined ? undefined : join(home, '.config'));
}

function dockerFolder(env: Environment): string | undefined {
  const home = text(env, 'HOME');
  return text(env, 'DOCKER_CONFIG') ?? (home === undefined ? undefined : join(home, '.docker'));
}

/** The variables that curl, Go and Node read; lower case wins. */
function readProxies(env: Environment): Proxies {
  const except = text(env, 'no_proxy') ?? text(env, 'NO_PROXY') ?? '';
  return {
    http: readProxy(env, 'HTTP_PROXY'),
    https: readProxy(env, 'HTTPS_PROXY'),
    except: except.split(/[\s,]+/).filter((entry) => entry !== ''),
  };
}

function readProxy(env: Environment, upper: string): URL | undefined {
  const name = text(env, upper.toLowerCase()) === undefined ? upper : upper.toLowerCase();
  const value = text(env, name);
  if (value === undefined) return undefined;
  const url = URL.parse(value.includes('://') ? value : `http://${value}`);
  if (url !== null && /^https?:$/.test(url.protocol) && url.hostname !== '') return url;
  // the value may hold a password
  throw new Failure('INVALID', `${name} is not the address of an HTTP proxy: set it to http://host:port`);
}

function readEndpoints(value: string): ReadonlyMap<string, string> {
  const endpoints = new Map<string, string>();
  for (const pair of value.split(',')) {
    if (pair.trim() === '') continue;
    const offset = pair.indexOf('=');
    const [host, url] = [pair.slice(0, offset).trim(), pair.slice(offset + 1).trim()];
    if (offset < 1 || !/^https?:\/\/[^/]+\/?$/.test(url)) {
      throw new Failure(
        'INVALID',
        `TRANSSHIP_REGISTRY_ENDPOINTS: ${quote(withoutSecrets(pair))} is not host=http://address:port`,
      );
    }
    endpoints.set(host, url.replace(/\/$/, ''));
  }
  return endpoints;
}

function readAllow(env: Environment): readonly string[] | undefined {
  const value = text(env, 'TRANSSHIP_ALLOW');
  if (value === undefined) return undefined;
  try {
    return value.split(/[\s,]+/).flatMap((entry) => (entry === '' ? [] : [parseAllowed(entry)]));
  } catch (error) {
    throw new Failure('INVALID', `TRANSSHIP_ALLOW: ${toFailure(error).message}`);
  }
}

function readCount(env: Environment, name: string, most: number, least = 1): number | undefined {
  const value = text(env, name);
  if (value === undefined) return undefined;
  const number = Number(value);
  if (Number.isInteger(number) && number >= least && number <= most) return number;
  throw new Failure('INVALID', `${name} is not a whole number from ${least} to ${most}`);
}

function readFlag(env: Environment, name: string): boolean | undefined {
  const value = text(env, name);
  if (value === undefined) return undefined;
  if (value === 'true' || value === 'false') return value === 'true';
  throw new Failure('INVALID', `${name}: ${quote(value)} is neither true nor false`);
}

function readQueueUrl(env: Environment, name: string): string | undefined {
  const value = text(env, name);
  if (value === undefined || /^https?:$/.test(URL.parse(value)?.protocol ?? '')) return value;
  throw new Failure('INVALID', `${name}: ${quote(withoutSecrets(value))} is not the URL of a queue`);
}

function readLogLevel(value: string | undefined): LogLevel {
  if (value === undefined) return 'info';
  const level = LOG_LEVELS.find((name) => name === value);
  if (level !== undefined) return level;
  throw new Failure('INVALID', `TRANSSHIP_LOG_LEVEL: ${quote(value)} is not one of ${LOG_LEVELS.join(', ')}`);
}

function text(env: Environment, name: string): string | undefined {
  const value = env[name];
  return value === undefined || value === '' ? undefined : value;
}
