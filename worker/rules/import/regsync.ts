import { isFailure } from '../../util/failure.ts';
import { isRecord } from '../../util/record.ts';
import { goExpression, repositoryPattern } from './expressions.ts';
import { Findings, lost, PLAIN, shown, type Mapping, type Note, type Tags } from './mapping.ts';
import { attempt, NoRule } from './no-rule.ts';
import { translateRange } from './ranges.ts';
import {
  BY_DIGEST,
  INSECURE,
  nameOf,
  NOT_AN_IMAGE,
  ONE_PLATFORM,
  plainName,
  readImage,
  takesSignatures,
} from './references.ts';
import type { FileValue, Shape } from './source-file.ts';
import { everySeconds, goSeconds, robfigSchedule, type Timed } from './times.ts';

/** Keys of `sync` and `defaults` that a rule carries, or that are about how regsync itself works: docs/import.md lists them. */
const CARRIED = ['interval', 'schedule', 'referrers', 'digestTags'];
const OF_REGSYNC = [
  'parallel',
  'blobLimit',
  'cacheCount',
  'cacheTime',
  'userAgent',
  'fastCheck',
  'referrerSlow',
  'ratelimit',
];
const STEP_KEYS = new Set([
  'source',
  'target',
  'type',
  'tags',
  'tagSets',
  'repos',
  'platform',
  'platforms',
  ...CARRIED,
  ...OF_REGSYNC,
]);
const REASONS: ReadonlyMap<string, string> = new Map([
  ['backup', 'no rule keeps what a mirror replaces: a backup rule of the target, run before, keeps it in S3'],
  ['hooks', 'no rule runs a command'],
  ['forceRecursive', '`transship verify` looks at every blob; a rule compares digests'],
  ['includeExternal', 'foreign layers are always copied where the source has them'],
  ['mediaTypes', 'a rule copies images of every media type'],
  ['referrerFilters', 'a rule copies everything that refers to an image, or nothing'],
  ['referrerSource', 'what refers to an image is read beside it'],
  ['referrerTarget', 'what refers to an image is written beside it'],
  ['skipDockerConfig', 'the files of docker and podman are read, and REGISTRY_AUTH_FILE names another one'],
]);

/** Whether it looks like a file of regsync. */
export function isRegsync(value: FileValue): boolean {
  return isRecord(value) && Array.isArray(value['sync']);
}

/** Reads a file of regsync: https://regclient.org/usage/regsync/ */
export function readRegsync(value: FileValue, shape: Shape): Findings {
  const findings = new Findings();
  const file = shape.record('', value);
  const version = shape.optionalText('version', file['version']) ?? '1';
  if (version !== '0' && version !== '1') throw shape.fail('version', '1');
  const known = ['version', 'creds', 'defaults', 'sync', ...Object.keys(file).filter((key) => key.startsWith('x-'))];
  for (const note of findings.keys('', file, new Set(known))) findings.entries.push(note);
  for (const [index, one] of shape.list('creds', file['creds']).entries())
    readCredentials(`creds[${index}]`, shape.record(`creds[${index}]`, one), findings, shape);
  const defaults = shape.record('defaults', file['defaults'] ?? {});
  const ofDefaults = findings.keys('defaults', defaults, new Set([...CARRIED, ...OF_REGSYNC]), REASONS);
  for (const note of ofDefaults) findings.entries.push(note);
  for (const [index, one] of shape.list('sync', file['sync']).entries()) {
    const where = `sync[${index}]`;
    new StepReader(where, shape.record(where, one), defaults, findings, shape).read();
  }
  return findings;
}

const CREDENTIAL_KEYS = ['user', 'pass', 'token', 'credHelper', 'clientCert', 'clientKey'];
const HOST_KEYS = new Set([
  'registry',
  'tls',
  'regcert',
  ...CREDENTIAL_KEYS,
  ...'credExpire credHost repoAuth priority api apiOpts blobChunk blobMax reqPerSec reqConcurrent scheme'.split(' '),
]);
const HOST_REASONS: ReadonlyMap<string, string> = new Map([
  ['hostname', 'a registry goes by its own host here: replace its name in the rules'],
  ['pathPrefix', 'write it in front of the repositories in the rules'],
  ['mirrors', 'a rule reads from one registry'],
]);

function readCredentials(
  where: string,
  given: Readonly<Record<string, unknown>>,
  findings: Findings,
  shape: Shape,
): void {
  const registry = shape.text(`${where}.registry`, given['registry']);
  if (CREDENTIAL_KEYS.some((key) => given[key] !== undefined)) findings.credentials.add(registry);
  const tls = shape.optionalText(`${where}.tls`, given['tls']);
  if (tls === 'insecure' || tls === 'disabled') findings.lost(`${where}.tls`, `${shown(registry)}: ${INSECURE}`);
  if (given['regcert'] !== undefined)
    findings.lost(`${where}.regcert`, `put this certificate where docker looks for it: /etc/docker/certs.d/HOST`);
  for (const note of findings.keys(where, given, HOST_KEYS, HOST_REASONS)) findings.entries.push(note);
}

/** Reads one step of `sync` into findings: rules, or the reason why it makes no rule. */
class StepReader {
  readonly #where: string;
  readonly #step: Readonly<Record<string, unknown>>;
  readonly #defaults: Readonly<Record<string, unknown>>;
  readonly #findings: Findings;
  readonly #shape: Shape;
  readonly #notes: Note[];

  constructor(
    where: string,
    step: Readonly<Record<string, unknown>>,
    defaults: Readonly<Record<string, unknown>>,
    findings: Findings,
    shape: Shape,
  ) {
    this.#where = where;
    this.#step = step;
    this.#defaults = defaults;
    this.#findings = findings;
    this.#shape = shape;
    this.#notes = [...findings.keys(where, step, STEP_KEYS, REASONS)];
  }

  read(): void {
    try {
      for (const mapping of this.#mappings()) this.#findings.add(mapping);
    } catch (error) {
      if (!(error instanceof NoRule)) throw error;
      this.#findings.lost(error.where, error.message);
    }
  }

  #mappings(): readonly Mapping[] {
    const source = this.#place('source');
    const target = this.#place('target');
    const type = this.#text('type');
    switch (type) {
      case 'image':
        return [this.#image(source, target)];
      case 'repository':
        return this.#repository(source, target);
      case 'registry':
        return this.#registry(source.replace(/\/+$/, ''), target.replace(/\/+$/, ''));
      default:
        throw this.#shape.fail(`${this.#where}.type`, 'registry, repository or image');
    }
  }

  #image(source: string, target: string): Mapping {
    const [from, to] = [this.#named('source', source), this.#named('target', target)];
    if (from.digest !== undefined || to.digest !== undefined) throw new NoRule(`${this.#where}.source`, BY_DIGEST);
    const [tag, wanted] = [from.tag ?? 'latest', to.tag ?? 'latest'];
    return this.#mapping({
      name: `${plainName(from.repository)}-${tag}`,
      group: from.repository.registry,
      from: [nameOf(from)],
      to: [tag === wanted ? nameOf(to) : `${nameOf(to)}:${wanted}`],
      tags: { include: [tag] },
    });
  }

  #repository(source: string, target: string): readonly Mapping[] {
    const [from, to] = [this.#named('source', source), this.#named('target', target)];
    if (from.tag !== undefined || to.tag !== undefined || from.digest !== undefined || to.digest !== undefined)
      throw new NoRule(this.#where, 'a step of the type repository names no tag and no digest');
    return this.#selections().map((tags) =>
      this.#mapping({
        name: plainName(from.repository),
        group: from.repository.registry,
        from: [nameOf(from)],
        to: [nameOf(to)],
        tags,
      }),
    );
  }

  #registry(source: string, target: string): readonly Mapping[] {
    const repos = this.#shape.record(`${this.#where}.repos`, this.#step['repos'] ?? {});
    const allow = this.#shape.texts(`${this.#where}.repos.allow`, repos['allow']);
    if (this.#shape.list(`${this.#where}.repos.deny`, repos['deny']).length > 0)
      throw new NoRule(
        `${this.#where}.repos.deny`,
        'a rule cannot leave out repositories: name those that you want in "from"',
      );
    const patterns = allow.map((one) => {
      const pattern = repositoryPattern(one);
      if (pattern === undefined)
        throw new NoRule(
          `${this.#where}.repos.allow`,
          `${shown(one)}: sources have * and {a,b}, and no other expressions`,
        );
      return pattern;
    });
    return this.#selections().map((tags) =>
      this.#mapping({
        name: source,
        group: source,
        from: (patterns.length === 0 ? ['*'] : [...new Set(patterns)]).map((pattern) => `${source}/${pattern}`),
        to: [`${target}/{repository}`],
        tags,
      }),
    );
  }

  #mapping(parts: Pick<Mapping, 'name' | 'group' | 'from' | 'to' | 'tags'>): Mapping {
    const notes = [...this.#notes];
    const schedule = this.#schedule(notes);
    return {
      ...PLAIN,
      ...parts,
      where: this.#where,
      platforms: this.#platforms(notes),
      referrers: this.#referrers(parts.tags, notes),
      schedule,
      notes,
    };
  }

  /** One for each set of conditions: a tag is copied that passes one of the sets. */
  #selections(): readonly Tags[] {
    const sets = this.#shape.list(`${this.#where}.tagSets`, this.#step['tagSets']);
    const given = sets.map((set, index) => this.#conditions(`${this.#where}.tagSets[${index}]`, set));
    const own = this.#step['tags'];
    if (own !== undefined && own !== null) {
      const tags = this.#conditions(`${this.#where}.tags`, own);
      if (given.length === 0 || Object.values(tags).some((value) => value !== undefined)) given.push(tags);
    }
    return given.length === 0 ? [{}] : given;
  }

  #conditions(where: string, value: FileValue): Tags {
    const { allow, deny, semverRange, ...others } = this.#shape.record(where, value);
    for (const note of this.#findings.keys(where, others, new Set())) this.#notes.push(note);
    const patterns = (name: string, list: FileValue): readonly string[] | undefined => {
      const texts = this.#shape.texts(`${where}.${name}`, list);
      return texts.length === 0
        ? undefined
        : [...new Set(texts.map((one) => attempt(`${where}.${name}`, one, () => goExpression(`^${one}$`))))];
    };
    const ranges = this.#shape.texts(`${where}.semverRange`, semverRange).map((one) => {
      const { range, differences } = attempt(`${where}.semverRange`, one, () => translateRange(one, 'regclient'));
      for (const difference of differences) this.#note(`${where}.semverRange`, difference);
      return range;
    });
    return {
      include: patterns('allow', allow),
      exclude: patterns('deny', deny),
      semver: ranges.length === 0 ? undefined : ranges.join(' || '),
    };
  }

  #note(where: string, text: string): void {
    if (!this.#notes.some((note) => note.where === where && note.text === text)) this.#notes.push(lost(where, text));
  }

  #schedule(notes: Note[]): Timed['schedule'] | undefined {
    const own = this.#step['schedule'] ?? this.#step['interval'];
    const [words, where] = own === undefined ? [this.#defaults, 'defaults'] : [this.#step, this.#where];
    const schedule = this.#shape.optionalText(`${where}.schedule`, words['schedule']);
    const interval = this.#shape.optionalText(`${where}.interval`, words['interval']);
    const [key, text] = schedule === undefined ? (['interval', interval] as const) : (['schedule', schedule] as const);
    if (text === undefined || text === '0') return undefined;
    try {
      const timed = key === 'schedule' ? robfigSchedule(text) : everySeconds(goSeconds(text));
      if (timed.difference !== undefined) notes.push(lost(`${where}.${key}`, timed.difference));
      return timed.schedule;
    } catch (error) {
      if (!isFailure(error, 'INVALID')) throw error;
      notes.push(lost(`${where}.${key}`, `${shown(text)}: ${error.message}`));
      return undefined;
    }
  }

  #platforms(notes: Note[]): readonly string[] {
    const one = this.#shape.optionalText(`${this.#where}.platform`, this.#step['platform']);
    const list = this.#shape.texts(`${this.#where}.platforms`, this.#step['platforms']);
    if (one === 'local' || list.includes('local')) {
      notes.push(
        lost(`${this.#where}.platform`, 'the platform of the machine cannot be meant: every platform is copied'),
      );
      return [];
    }
    if (one !== undefined) notes.push(lost(`${this.#where}.platform`, ONE_PLATFORM));
    if (list.length > 0)
      notes.push(
        lost(`${this.#where}.platforms`, 'the index is rewritten to have these alone, and has another digest'),
      );
    return one === undefined ? list : [one];
  }

  /** What refers to an image comes along altogether or not at all; regsync has a switch for either way of referring. */
  #referrers(tags: Tags, notes: Note[]): boolean {
    const of = (key: string): boolean =>
      this.#shape.optionalBoolean(`${this.#where}.${key}`, this.#step[key] ?? this.#defaults[key]) ?? false;
    const [referrers, digestTags] = [of('referrers'), of('digestTags') || takesSignatures(tags)];
    if (referrers !== digestTags) {
      const what = referrers ? 'tags of signatures (sha256-….sig)' : 'referrers';
      notes.push({ where: this.#where, text: `${what} come along too, which regsync left out`, lost: false });
    }
    return referrers || digestTags;
  }

  #named(key: string, text: string): NonNullable<ReturnType<typeof readImage>> {
    const image = readImage(text);
    if (image === undefined) throw new NoRule(`${this.#where}.${key}`, `${shown(text)}: ${NOT_AN_IMAGE}`);
    return image;
  }

  #text(key: string): string {
    return this.#shape.text(`${this.#where}.${key}`, this.#step[key]);
  }

  #place(key: string): string {
    const text = this.#text(key);
    if (text.includes('{{'))
      throw new NoRule(
        `${this.#where}.${key}`,
        'it has a template: write the name itself into the file, and import again',
      );
    return text;
  }
}
