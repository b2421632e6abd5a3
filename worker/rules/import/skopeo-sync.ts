import { parseRegistryTarget } from '../../oci/location.ts';
import { isTag } from '../../oci/reference.ts';
import { Failure, isFailure } from '../../util/failure.ts';
import { isRecord } from '../../util/record.ts';
import { goExpression } from './expressions.ts';
import { Findings, lost, PLAIN, shown, shownKey, type Note, type Tags } from './mapping.ts';
import { translateRange } from './ranges.ts';
import { BY_DIGEST, INSECURE, nameOf, NOT_AN_IMAGE, plainName, readImage } from './references.ts';
import type { FileValue, Shape } from './source-file.ts';

/** What stands on the command line of `skopeo sync`, and not in its file. */
export interface SkopeoOptions {
  /** `host[/path]`. */
  readonly to: string;
  readonly scoped?: boolean | undefined;
  readonly all?: boolean | undefined;
  readonly appendSuffix?: string | undefined;
}

const KEYS = new Set(['images', 'images-by-tag-regex', 'images-by-semver', 'credentials', 'tls-verify', 'cert-dir']);
const SELECTIONS = ['images', 'images-by-tag-regex', 'images-by-semver'] as const;

/** Whether it looks like a file of `skopeo sync --src yaml`. */
export function isSkopeoSync(value: FileValue): boolean {
  const registries = isRecord(value) ? Object.values(value) : [];
  return registries.some((one) => isRecord(one) && SELECTIONS.some((key) => isRecord(one[key])));
}

/** Reads a file of `skopeo sync --src yaml`: https://github.com/containers/skopeo/blob/main/docs/skopeo-sync.1.md */
export function readSkopeoSync(value: FileValue, shape: Shape, options: SkopeoOptions): Findings {
  const findings = new Findings();
  const { registry, prefix } = parseRegistryTarget(options.to);
  const suffix = options.appendSuffix ?? '';
  if (!isTag(`x${suffix}`)) throw new Failure('INVALID', `${shown(suffix)} cannot be the end of a tag`);
  if (options.all !== true)
    findings.lost(
      'skopeo sync',
      'without --all it copies the image of one platform; these rules copy every platform (import with --all if you ran it so)',
    );
  const target = `${registry}/${prefix === '' ? '' : `${prefix}/`}`;
  for (const [host, given] of Object.entries(shape.record('', value)))
    readRegistry(host, shape.record(shownKey(host), given), { findings, shape, options, target, suffix });
  return findings;
}

interface Reading {
  readonly findings: Findings;
  readonly shape: Shape;
  readonly options: SkopeoOptions;
  readonly target: string;
  readonly suffix: string;
}

function readRegistry(host: string, given: Readonly<Record<string, unknown>>, reading: Reading): void {
  const { findings, shape } = reading;
  const where = shownKey(host);
  for (const note of findings.keys(where, given, KEYS)) findings.entries.push(note);
  if (given['credentials'] !== undefined) findings.credentials.add(host);
  if (shape.optionalBoolean(`${where}.tls-verify`, given['tls-verify']) === false)
    findings.lost(`${where}.tls-verify`, INSECURE);
  if (shape.optionalText(`${where}.cert-dir`, given['cert-dir']) !== undefined)
    findings.lost(`${where}.cert-dir`, 'put these certificates where docker looks for them: /etc/docker/certs.d/HOST');
  for (const kind of SELECTIONS) {
    const selected = given[kind];
    if (selected === undefined || selected === null) continue;
    for (const [name, wanted] of Object.entries(shape.record(`${where}.${kind}`, selected)))
      readRepository(`${where}.${kind}.${shownKey(name)}`, { host, name, kind, wanted }, reading);
  }
}

interface Wanted {
  readonly host: string;
  readonly name: string;
  readonly kind: (typeof SELECTIONS)[number];
  readonly wanted: FileValue;
}

function readRepository(where: string, { host, name, kind, wanted }: Wanted, reading: Reading): void {
  const { findings, options, target, suffix } = reading;
  const image = readImage(`${host}/${name}`);
  if (image === undefined || image.tag !== undefined || image.digest !== undefined) {
    findings.lost(where, NOT_AN_IMAGE);
    return;
  }
  const selected = selectionOf(where, kind, wanted, reading);
  for (const note of selected.lost) findings.entries.push(note);
  if (selected.tags === undefined) return;
  const { registry, repository } = image.repository;
  const path =
    options.scoped === true ? `${registry}/${repository}` : repository.slice(repository.lastIndexOf('/') + 1);
  if (path.includes(':')) {
    findings.lost(
      where,
      'the destination of --scoped would have the port of the source within its path, which no registry takes',
    );
    return;
  }
  findings.add({
    ...PLAIN,
    where,
    name: plainName(image.repository),
    group: host,
    from: [nameOf(image)],
    to: [`${target}${path}${suffix === '' ? '' : `:{tag}${suffix}`}`],
    tags: selected.tags,
    notes: selected.notes,
  });
}

interface Selected {
  /** Absent: none that a rule could have. */
  readonly tags?: Tags;
  readonly notes: readonly Note[];
  readonly lost: readonly Note[];
}

function selectionOf(where: string, kind: Wanted['kind'], wanted: FileValue, { shape }: Reading): Selected {
  if (kind === 'images') {
    const references = shape.texts(where, wanted);
    const tags = references.filter(isTag);
    const others = references.filter((one) => !isTag(one));
    return {
      ...(references.length > 0 && tags.length === 0 ? {} : { tags: { include: [...new Set(tags)] } }),
      notes: [],
      lost: others.map((one) => lost(where, `${shown(one)}: ${one.includes(':') ? BY_DIGEST : 'it is not a tag'}`)),
    };
  }
  const text = shape.text(where, wanted);
  try {
    if (kind === 'images-by-tag-regex') return { tags: { include: [goExpression(text)] }, notes: [], lost: [] };
    const { range, differences } = translateRange(text, 'masterminds');
    return { tags: { semver: range }, notes: differences.map((one) => lost(where, one)), lost: [] };
  } catch (error) {
    if (!isFailure(error, 'INVALID')) throw error;
    return { notes: [], lost: [lost(where, `${shown(text)}: ${error.message}`)] };
  }
}
