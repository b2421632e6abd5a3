import { EMPTY, EMPTY_BYTES } from '../artifacts/names.ts';
import { once } from '../content/bytes.ts';
import type { Source, Target } from '../content/content.ts';
import { readAll } from '../content/read.ts';
import { digestOf } from '../oci/digest.ts';
import { MAX_MANIFEST_BYTES, MEDIA_TYPE, parseManifest } from '../oci/manifest.ts';
import type { Abortable } from '../util/abort.ts';
import { Failure, ifFound } from '../util/failure.ts';
import { isRecord } from '../util/record.ts';
import type { Registry } from './backends.ts';

// A scratch repository has the mark of its drill before it has anything else. In ECR the mark is a tag of the resource, set by the call that creates the
// repository. In other registries, where repositories have no tags, it is an artifact that is pushed first.

/** The tag of the resource, in ECR. */
export const MARK_TAG = 'transship-drill';
/** The tag of the artifact, in other registries. */
export const MARK_NAME = 'transship-drill-mark';

const ARTIFACT_TYPE = 'application/vnd.transship.drill.v1';
const ANNOTATION = 'vnd.transship.drill';

/**
 * Creates a repository with `mark`. Idempotent. CONFLICT for a repository that exists without this mark, even an empty one: nothing is written to
 * it.
 */
export async function createScratch(registry: Registry, name: string, mark: string, options: Abortable): Promise<void> {
  const exists = await registry.hasRepository(name, options);
  if (exists === undefined) {
    await markWithArtifact(registry.repository(name), name, mark, options);
    return;
  }
  if (!exists) await registry.createRepository(name, { tags: { [MARK_TAG]: mark } }, options);
  // another process may have created it in between, without the mark
  const tags = (await registry.settings(name, options))?.['tags'];
  if (!isRecord(tags) || tags[MARK_TAG] !== mark) throw existed(name);
}

async function markWithArtifact(
  repository: Source & Target,
  name: string,
  mark: string,
  options: Abortable,
): Promise<void> {
  if ((await artifactMark(repository, options)) === mark) return;
  const anyTag = async (): Promise<boolean> => {
    for await (const _ of repository.tags(options)) return true;
    return false;
  };
  if ((await ifFound(anyTag())) === true) throw existed(name);
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.ociManifest,
      artifactType: ARTIFACT_TYPE,
      config: EMPTY,
      layers: [EMPTY],
      annotations: { [ANNOTATION]: mark },
    }),
  );
  await repository.put(EMPTY, () => once(EMPTY_BYTES), options);
  const descriptor = { mediaType: MEDIA_TYPE.ociManifest, digest: digestOf(bytes), size: bytes.byteLength };
  await repository.tag(MARK_NAME, descriptor, () => once(bytes), options);
}

/** The mark of a repository outside ECR. Undefined where it has no mark. */
export async function artifactMark(repository: Source, options: Abortable): Promise<string | undefined> {
  const descriptor = await ifFound(repository.resolve(MARK_NAME, options));
  if (descriptor === undefined) return undefined;
  const { mediaType } = descriptor;
  const manifest = parseManifest(await readAll(repository, descriptor, MAX_MANIFEST_BYTES, options), mediaType);
  return manifest.annotations?.[ANNOTATION];
}

function existed(name: string): Failure {
  return new Failure(
    'CONFLICT',
    `${name} exists already and is not of this drill: a drill writes only to repositories that it creates`,
    { context: { side: 'target' } },
  );
}
