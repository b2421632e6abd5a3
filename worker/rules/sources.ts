import { ecrHost, ecrHostFault } from '../oci/ecr-host.ts';
import { formatRepository, parseReference, withoutSecrets } from '../oci/reference.ts';
import { Failure, isFailure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { parseImagePattern, withoutTransport } from '../oci/location.ts';
import type { CopyRule } from './rule.ts';

/** Repositories of one registry. */
export interface SourcePattern {
  readonly registry: string;
  /** `*` stands for any characters, also `/`. Without one it is the repository's name, which no list has to be asked for. */
  readonly pattern: string;
  /** What every name that matches starts with. */
  readonly prefix: string;
}

/** The most names that the braces of one `from` stand for: enough for a file written by hand, too few to fill memory. */
const MAX_ALTERNATIVES = 1000;

/**
 * What the `from` of a rule stand for, braces written out, none twice, in the order of the rule. INVALID for what `parseSource` refuses.
 */
export function sourcesOf(rule: Pick<CopyRule, 'from'>): readonly SourcePattern[] {
  const sources = new Map(rule.from.flatMap(parseSource).map((source) => [formatSource(source), source]));
  return [...sources.values()];
}

/** A registry under one name: Amazon ECR has several hosts for each. */
export function registryName(host: string): string {
  const ecr = ecrHost(host);
  if (ecr === undefined) return host;
  return `${ecr.account}.dkr.ecr.${ecr.region}.amazonaws.com${ecr.region.startsWith('cn-') ? '.cn' : ''}`;
}

/** Reads the host of a registry as references have it: `docker.io`, `registry.example:5000`. INVALID for others. */
export function parseRegistryHost(text: string): string {
  if (registryOf(`${text}/x/y`) === text) return text;
  throw new Failure(
    'INVALID',
    `${quote(withoutSecrets(text))} is not the host of a registry: expected one such as docker.io or registry.example:5000`,
  );
}

/** The registry of a reference; undefined for what is not a reference. */
function registryOf(reference: string): string | undefined {
  try {
    return parseReference(reference).registry;
  } catch (error) {
    if (isFailure(error, 'INVALID')) return undefined;
    throw error;
  }
}

/** `registry/pattern`. */
export function formatSource({ registry, pattern }: SourcePattern): string {
  return formatRepository({ registry, repository: pattern });
}

/**
 * Reads one `from`: `[docker://][host/]repository` as docker reads it, also with `{a,b}`, and where a host is named with `*`; an ECR host
 * alone stands for all its repositories. INVALID for others, and for images by tag or digest.
 */
export function parseSource(text: string): readonly SourcePattern[] {
  const whole = withoutTransport(text);
  const host = whole.replace(/\/$/, '');
  if (ecrHost(host) !== undefined) return [{ registry: host, pattern: '*', prefix: '' }];
  const wrongHost = ecrHostFault(host);
  if (wrongHost !== undefined) throw new Failure('INVALID', wrongHost);
  if (/^(?:localhost|[^/{}*:]*[.][^/{}*:]*)(?::[0-9]+)?$/.test(host) && host !== 'localhost')
    throw new Failure(
      'INVALID',
      `${quote(text)} is not a repository: ${quote(`${host}/*`)} stands for all of that registry`,
    );
  return expandBraces(whole).map((alternative) => parseAlternative(alternative, text));
}

function parseAlternative(alternative: string, text: string): SourcePattern {
  const { registry, repository, tag } = parseImagePattern(alternative);
  if (tag !== undefined)
    throw new Failure('INVALID', `${quote(text)} names a tag: sources are repositories, and tags go under "tags"`);
  const star = repository.indexOf('*');
  if (star === -1) return { registry, pattern: repository, prefix: repository };
  // as parseReference has it
  const { registry: known } = parseReference(`${registry}/x/y`);
  return { registry: known, pattern: repository, prefix: repository.slice(0, star) };
}

/** Every string that `{a,b}` in a pattern stands for, in order; braces may stand within braces. INVALID when they are not closed, or too many. */
export function expandBraces(pattern: string): readonly string[] {
  let done = [''];
  for (let index = 0; index < pattern.length; index++) {
    const character = pattern.charAt(index);
    let pieces = [character];
    if (character === '{') {
      const { alternatives, end } = readBraces(pattern, index);
      pieces = alternatives.flatMap(expandBraces);
      index = end;
    }
    if (done.length * pieces.length > MAX_ALTERNATIVES)
      throw new Failure('INVALID', `${quote(pattern)} stands for more than ${MAX_ALTERNATIVES} names: use "*"`);
    done = done.flatMap((start) => pieces.map((piece) => start + piece));
  }
  return [...new Set(done)];
}

function readBraces(pattern: string, start: number): { alternatives: readonly string[]; end: number } {
  const alternatives: string[] = [];
  let depth = 0;
  let from = start + 1;
  for (let index = start; index < pattern.length; index++) {
    const character = pattern.charAt(index);
    if (character === '{') depth++;
    else if (character === '}') depth--;
    if (depth === 0 || (character === ',' && depth === 1)) {
      alternatives.push(pattern.slice(from, index));
      from = index + 1;
    }
    if (depth === 0) return { alternatives, end: index };
  }
  throw new Failure('INVALID', `${quote(pattern)}: a brace is not closed`);
}
