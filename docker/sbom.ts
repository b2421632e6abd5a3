// The SBOM of a bundle, in SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3/): the packages in the bundle, by the modules that it was made of,
// and the Node that runs it. Debian's packages are not in it: scanners read them from the image of the worker.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { env, versions } from 'node:process';
import { bundledPackages, packageIn, type Package } from './bundled-packages.ts';

interface Listed extends Package {
  /** In hex, of the archive that npm unpacked. */
  readonly sha512?: string;
}

/** Reads package.json, package-lock.json and node_modules of the current folder. `SOURCE_DATE_EPOCH` (seconds) fixes its only time. */
export function sbomOf(modules: readonly string[]): object {
  const bundled = bundledPackages(modules).map(({ name, version, license, folder }): Listed => ({
    name,
    version,
    license,
    sha512: sha512Of(folder),
  }));
  const own = packageIn('');
  const node: Listed = { name: 'node', version: versions.node, license: 'MIT' };
  const packages = [
    spdxPackage(own, 'generic'),
    spdxPackage(node, 'generic'),
    ...bundled.map((one) => spdxPackage(one, 'npm')),
  ];
  const hash = createHash('sha256').update(JSON.stringify(packages)).digest('hex');
  const created = env['SOURCE_DATE_EPOCH'] === undefined ? Date.now() : Number(env['SOURCE_DATE_EPOCH']) * 1000;
  return {
    spdxVersion: 'SPDX-2.3',
    dataLicense: 'CC0-1.0',
    SPDXID: 'SPDXRef-DOCUMENT',
    name: `${own.name}-${own.version}`,
    documentNamespace: `https://spdx.org/spdxdocs/${own.name}-${own.version}-${hash}`,
    creationInfo: {
      created: new Date(created).toISOString().replace(/\.\d+Z$/, 'Z'),
      creators: [`Tool: ${own.name}-build-${own.version}`],
    },
    documentDescribes: [spdxId(own)],
    packages,
    relationships: [node, ...bundled].map((one) => ({
      spdxElementId: spdxId(own),
      relationshipType: 'DEPENDS_ON',
      relatedSpdxElement: spdxId(one),
    })),
  };
}

function sha512Of(folder: string): string {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
    readonly packages: Readonly<Record<string, { readonly integrity?: string } | undefined>>;
  };
  const [, base64] =
    /^sha512-(.+)$/.exec(packages[folder.slice(folder.indexOf('node_modules/'), -1)]?.integrity ?? '') ?? [];
  if (base64 === undefined) throw new Error(`package-lock.json has no integrity for ${folder}`);
  return Buffer.from(base64, 'base64').toString('hex');
}

function spdxPackage({ name, version, license, sha512 }: Listed, type: 'npm' | 'generic'): object {
  return {
    SPDXID: spdxId({ name, version }),
    name,
    versionInfo: version,
    downloadLocation: 'NOASSERTION',
    filesAnalyzed: false,
    licenseDeclared: license ?? 'NOASSERTION',
    ...(sha512 !== undefined && { checksums: [{ algorithm: 'SHA512', checksumValue: sha512 }] }),
    externalRefs: [
      {
        referenceCategory: 'PACKAGE-MANAGER',
        referenceType: 'purl',
        referenceLocator: `pkg:${type}/${name.replace('@', '%40')}@${version}`,
      },
    ],
  };
}

/** Letters, digits, `.` and `-` alone. */
function spdxId({ name, version }: Pick<Package, 'name' | 'version'>): string {
  return `SPDXRef-Package-${name}-${version}`.replaceAll(/[^A-Za-z0-9.-]+/g, '-');
}
