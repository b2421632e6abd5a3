import type { Readable } from '../content/content.ts';
import { readAll } from '../content/read.ts';
import { MAX_MANIFEST_BYTES, MEDIA_TYPE, type Descriptor } from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure } from '../util/failure.ts';
import { optional } from '../util/optional.ts';
import { isRecord } from '../util/record.ts';

/** How an image runs, and what its builder said of it. https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md */
export interface ImageConfig {
  /** As the builder wrote it. */
  readonly created?: string;
  readonly author?: string;
  readonly os?: string;
  readonly architecture?: string;
  readonly user?: string;
  readonly workingDir?: string;
  readonly entrypoint?: readonly string[];
  readonly cmd?: readonly string[];
  readonly env?: readonly string[];
  readonly exposedPorts?: readonly string[];
  readonly volumes?: readonly string[];
  readonly stopSignal?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** Whether the config of a manifest is that of a container image; those of other artifacts are anything. */
export function isImageConfig({ mediaType }: Descriptor): boolean {
  return mediaType === MEDIA_TYPE.ociConfig || mediaType === MEDIA_TYPE.dockerConfig;
}

/** Reads the config of an image, verified. INVALID for what is not a config; members of another kind are left out. */
export async function readImageConfig(
  source: Readable,
  descriptor: Descriptor,
  options: Abortable,
): Promise<ImageConfig> {
  const bytes = await readAll(source, descriptor, MAX_MANIFEST_BYTES, options);
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (cause) {
    throw new Failure('INVALID', `read the config ${descriptor.digest}: it is not JSON`, { cause });
  }
  if (!isRecord(document))
    throw new Failure('INVALID', `read the config ${descriptor.digest}: it is not a JSON object`);
  const config = isRecord(document['config']) ? document['config'] : {};
  return {
    ...optional('created', textOf(document['created'])),
    ...optional('author', textOf(document['author'])),
    ...optional('os', textOf(document['os'])),
    ...optional('architecture', textOf(document['architecture'])),
    ...optional('user', textOf(config['User'])),
    ...optional('workingDir', textOf(config['WorkingDir'])),
    ...optional('entrypoint', listOf(config['Entrypoint'])),
    ...optional('cmd', listOf(config['Cmd'])),
    ...optional('env', listOf(config['Env'])),
    ...optional('exposedPorts', namesOf(config['ExposedPorts'])),
    ...optional('volumes', namesOf(config['Volumes'])),
    ...optional('stopSignal', textOf(config['StopSignal'])),
    ...optional('labels', labelsOf(config['Labels'])),
  };
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function listOf(value: unknown): readonly string[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const texts = value.filter((one) => typeof one === 'string');
  return texts.length === 0 ? undefined : texts;
}

/** The names of a set, which is an object of empty objects. */
function namesOf(value: unknown): readonly string[] | undefined {
  return isRecord(value) && Object.keys(value).length > 0 ? Object.keys(value) : undefined;
}

function labelsOf(value: unknown): Readonly<Record<string, string>> | undefined {
  if (!isRecord(value)) return undefined;
  const labels = Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  return labels.length === 0 ? undefined : Object.fromEntries(labels);
}
