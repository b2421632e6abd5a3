// node docker/attest.ts LAYOUT SBOM PROVENANCE BASE BASE_DIGEST
//
// Adds two referrers to the one image of an OCI layout: the SBOM, and where the image comes from. The latter is an in-toto statement, not signed
// (SLSA provenance v1, https://slsa.dev/spec/v1.0/provenance), and is written to the file PROVENANCE too. `transship copy oci:LAYOUT docker://…` takes them along.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { argv } from 'node:process';

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

const [layout = '', sbom = '', provenance = '', base = '', baseDigest = ''] = argv.slice(2);
const indexFile = join(layout, 'index.json');
const index = JSON.parse(readFileSync(indexFile, 'utf8')) as { readonly manifests: readonly Descriptor[] };
const [image] = index.manifests;
if (image === undefined || index.manifests.length !== 1) throw new Error(`${layout} has to hold one image`);
writeFileSync(provenance, JSON.stringify(provenanceOf(image)));
const referrers = [
  attach(image, 'application/spdx+json', readFileSync(sbom)),
  attach(image, 'application/vnd.in-toto+json', readFileSync(provenance)),
];
writeFileSync(indexFile, JSON.stringify({ ...index, manifests: [image, ...referrers] }));

/** Writes a blob, and a manifest that refers to the image (https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidelines-for-artifact-usage). */
function attach(subject: Descriptor, artifactType: string, bytes: Buffer): Descriptor {
  const { mediaType, digest, size } = subject;
  const manifest = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    artifactType,
    config: write('application/vnd.oci.empty.v1+json', Buffer.from('{}')),
    layers: [write(artifactType, bytes)],
    subject: { mediaType, digest, size },
  };
  return { ...write(manifest.mediaType, Buffer.from(JSON.stringify(manifest))), artifactType };
}

function write(mediaType: string, bytes: Buffer): Descriptor {
  const hex = createHash('sha256').update(bytes).digest('hex');
  mkdirSync(join(layout, 'blobs/sha256'), { recursive: true });
  writeFileSync(join(layout, 'blobs/sha256', hex), bytes);
  return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
}

function provenanceOf({ digest }: Descriptor): object {
  const git = (...args: readonly string[]): string => execFileSync('git', args, { encoding: 'utf8' }).trim();
  return {
    _type: 'https://in-toto.io/Statement/v1',
    subject: [{ name: 'transship', digest: digestSet(digest) }],
    predicateType: 'https://slsa.dev/provenance/v1',
    predicate: {
      buildDefinition: {
        buildType: 'https://github.com/containers/buildah',
        externalParameters: { configSource: { path: 'Dockerfile' } },
        // what was not committed is in no commit
        internalParameters: { uncommitted: git('status', '--porcelain') !== '' },
        resolvedDependencies: [
          { name: 'source', digest: { gitCommit: git('rev-parse', 'HEAD') } },
          { name: base, digest: digestSet(baseDigest) },
          { name: 'package-lock.json', digest: { sha256: sha256Of('package-lock.json') } },
        ],
      },
      runDetails: {
        builder: { id: 'docker/build-with-buildah.sh' },
        metadata: { finishedOn: new Date().toISOString() },
      },
    },
  };
}

function sha256Of(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

function digestSet(digest: string): Readonly<Record<string, string>> {
  const [algorithm = '', hex = ''] = digest.split(':');
  return { [algorithm]: hex };
}
