import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { parseRegistryTarget, type RegistryTarget } from './location.ts';

// Drills restore into scratch repositories, PREFIX/transship-drill-ID/REPOSITORY. The name alone marks a repository as a drill's: the role of the
// Cleaner may delete no others.

const FOLDER = 'transship-drill-';

/** Reads `docker://host/prefix`, with or without its transport: where drills make their scratch repositories. INVALID without a prefix. */
export function parseScratchPlace(text: string): RegistryTarget {
  const target = parseRegistryTarget(text);
  if (target.prefix !== '') return target;
  throw new Failure(
    'INVALID',
    `${quote(text)} names no prefix: expected host/prefix, such as ${target.registry}/scratch, with no repository of yours below it`,
  );
}

/** `host/prefix`. */
export function formatScratchPlace({ registry, prefix }: RegistryTarget): string {
  return `${registry}/${prefix}`;
}

/** What the names of all scratch repositories of a drill begin with. `id`: lowercase letters and digits. */
export function scratchFolder({ prefix }: Pick<RegistryTarget, 'prefix'>, id: string): string {
  return `${scratchNames({ prefix })}${id}`;
}

/** What the names of scratch repositories at a place begin with. */
export function scratchNames({ prefix }: Pick<RegistryTarget, 'prefix'>): string {
  return `${prefix}/${FOLDER}`;
}

/** Whether a repository has the name of a scratch repository at this place. */
export function isScratchName(place: Pick<RegistryTarget, 'prefix'>, repository: string): boolean {
  const begin = scratchNames(place);
  return repository.startsWith(begin) && /^[a-z0-9]+\/./.test(repository.slice(begin.length));
}
