import type { Argument, Command, Option } from 'commander';
import { withoutTransport } from '../../oci/location.ts';
import { isRepositoryName, isTag } from '../../oci/reference.ts';

/** What the last word of a command line may become. */
export interface Candidates {
  readonly words: readonly Candidate[];
  /** Whether the shell completes names of files as well. */
  readonly files: boolean;
}

interface Candidate {
  readonly word: string;
  /** What it is, in a sentence. */
  readonly about?: string | undefined;
  /** Whether the word goes on after it, so that the shell adds no blank. */
  readonly goesOn?: boolean;
}

/** Asks registries. A list is empty where the registry does not answer, or not in time. */
export interface LookUp {
  /** Registries that there are credentials for. */
  hosts(): Promise<readonly string[]>;
  /** Names of repositories that start with `prefix`. */
  repositories(host: string, prefix: string): Promise<readonly string[]>;
  tags(host: string, repository: string): Promise<readonly string[]>;
}

/** Arguments that name an image or a place of images. */
const LOCATIONS: ReadonlySet<string> = new Set(['src', 'dst', 'place', 'ref', 'a', 'b', 'rule-or-src']);
/** Values of options that name a file. */
const FILE_VALUE = /<(?:file|folder)>/;
/** The beginnings of places that are not registries. */
const TRANSPORTS = ['s3://', 'store:', 'oci-archive:', 'oci:', 'docker-archive:'];

const NOTHING: Candidates = { words: [], files: false };

/** What the last of `words` may become; those before it are the arguments so far. */
export async function candidatesFor(root: Command, words: readonly string[], lookUp: LookUp): Promise<Candidates> {
  const current = words.at(-1) ?? '';
  const { command, position, option, onlyArguments } = whereIn(root, words.slice(0, -1));
  if (option !== undefined) return valuesOf(option, current, '');
  if (current.startsWith('-') && !onlyArguments) {
    const [flag = '', ...rest] = current.split('=');
    const known = rest.length > 0 ? optionOf(command, flag) : undefined;
    return known === undefined ? optionsOf(command, current) : valuesOf(known, rest.join('='), `${flag}=`);
  }
  if (command.commands.length > 0 && position === 0) return commandsOf(command, current);
  const { registeredArguments: all } = command;
  const last = all.at(-1);
  const argument = all[position] ?? (last?.variadic === true ? last : undefined);
  return argument === undefined ? NOTHING : argumentValues(argument, current, lookUp);
}

/** Where a command line stands. */
interface Standing {
  readonly command: Command;
  /** How many arguments the command has. */
  readonly position: number;
  /** The option whose value comes next. */
  readonly option: Option | undefined;
  /** Whether two dashes ended the options. */
  readonly onlyArguments: boolean;
}

function whereIn(root: Command, words: readonly string[]): Standing {
  let command = root;
  let position = 0;
  let option: Option | undefined;
  let onlyArguments = false;
  for (const word of words) {
    if (option !== undefined) option = undefined;
    else if (word === '--') onlyArguments = true;
    else if (!onlyArguments && word.startsWith('-') && word !== '-') {
      const found = word.includes('=') ? undefined : optionOf(command, word);
      option = found?.required === true ? found : undefined;
    } else {
      const below = position === 0 ? command.commands.find((one) => isCalled(one, word)) : undefined;
      if (below !== undefined) command = below;
      else position++;
    }
  }
  return { command, position, option, onlyArguments };
}

function isCalled(command: Command, word: string): boolean {
  return command.name() === word || command.aliases().includes(word);
}

function optionOf(command: Command, flag: string): Option | undefined {
  return command.options.find(({ long, short }) => long === flag || short === flag);
}

function commandsOf(command: Command, current: string): Candidates {
  const shown = command.createHelp().visibleCommands(command);
  return only(
    current,
    shown.map((one) => ({ word: one.name(), about: one.summary() || one.description() })),
  );
}

function optionsOf(command: Command, current: string): Candidates {
  const shown = command.createHelp().visibleOptions(command);
  return only(
    current,
    shown.map(({ long, short, description }) => ({ word: long ?? short ?? '', about: description })),
  );
}

function valuesOf({ argChoices, flags }: Option, current: string, before: string): Candidates {
  const { words } = only(
    current,
    (argChoices ?? []).map((word) => ({ word })),
  );
  return { words: words.map(({ word }) => ({ word: before + word })), files: FILE_VALUE.test(flags) };
}

async function argumentValues(argument: Argument, current: string, lookUp: LookUp): Promise<Candidates> {
  const choices = (argument.argChoices ?? []).map((word) => ({ word }));
  if (choices.length > 0) return only(current, choices);
  if (argument.name() === 'file') return { words: [], files: true };
  if (argument.name() === 'registry') {
    const hosts = await lookUp.hosts();
    return only(
      current,
      hosts.map((word) => ({ word })),
    );
  }
  return LOCATIONS.has(argument.name()) ? locations(current, lookUp) : NOTHING;
}

/**
 * Transports and hosts, then the repositories of a host, then the tags of a repository. Only what can be a name is
 * offered: bash writes a candidate into the command line as it is, and a registry could answer `v1;command`.
 */
async function locations(current: string, lookUp: LookUp): Promise<Candidates> {
  const bare = withoutTransport(current);
  const before = current.slice(0, current.length - bare.length);
  if (before === '' && TRANSPORTS.some((one) => current.startsWith(one))) return { words: [], files: true };
  const slash = bare.indexOf('/');
  if (slash === -1) {
    const hosts = await lookUp.hosts();
    const begun = [...(before === '' ? TRANSPORTS : []), ...hosts.map((host) => `${before}${host}/`)];
    const { words } = only(
      current,
      begun.map((word) => ({ word, goesOn: true })),
    );
    return { words, files: before === '' };
  }
  const host = bare.slice(0, slash);
  if (!/[.:]/.test(host) && host !== 'localhost') return { words: [], files: true };
  const name = bare.slice(slash + 1);
  const colon = name.indexOf(':');
  if (colon === -1) {
    const found = (await lookUp.repositories(host, name)).filter(isRepositoryName);
    return only(
      current,
      found.map((repository) => ({ word: `${before}${host}/${repository}`, goesOn: true })),
    );
  }
  const repository = name.slice(0, colon);
  const tags = (await lookUp.tags(host, repository)).filter(isTag);
  return only(
    current,
    tags.map((tag) => ({ word: `${before}${host}/${repository}:${tag}` })),
  );
}

function only(current: string, words: readonly Candidate[]): Candidates {
  return { words: words.filter(({ word }) => word !== '' && word.startsWith(current)), files: false };
}
