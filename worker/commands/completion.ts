import { Argument, type Command } from 'commander';
import { anyOf } from '../util/abort.ts';
import { candidatesFor, type Candidates, type LookUp } from './completion/candidates.ts';
import { ASKED, scriptFor, SHELLS, type Shell } from './completion/scripts.ts';
import type { CommandContext } from './context.ts';

/** How long a registry may take to answer: a person waits at the prompt. */
const ANSWER_MS = 3000;
/** More candidates than a person reads. */
const MOST = 500;

export function addCompletion(program: Command, context: CommandContext): void {
  program
    .command('completion')
    .summary('print a script by which a shell completes commands')
    .description(
      'Prints the script by which a shell completes commands, options, and the repositories and tags of registries. bash: add "source <(transship completion bash)" to ~/.bashrc. zsh: write it to a file _transship in a folder of $fpath. fish: write it to ~/.config/fish/completions/transship.fish.',
    )
    .addArgument(new Argument('<shell>', 'which shell').choices(SHELLS))
    .action((shell: Shell) => context.stdout.write(scriptFor(shell)));
  program
    .command(ASKED, { hidden: true })
    .argument('[words...]')
    .action(async (words: readonly string[]) => {
      context.stdout.write(answerOf(await candidatesFor(program, words, registriesOf(context))));
    });
}

function answerOf({ words, files }: Candidates): string {
  const lines = words.slice(0, MOST).map(({ word, about = '', goesOn }) => {
    const [sentence = ''] = about.replaceAll(/\s+/g, ' ').split(/[.;](?:\s|$)/);
    return goesOn === true ? `${word}\t\t` : sentence === '' ? word : `${word}\t${sentence}`;
  });
  return [...lines, files ? ':files' : ':', ''].join('\n');
}

/** Asks registries with the credentials that every command has. A failure gives no candidate, and prints nothing at the prompt. */
function registriesOf(context: CommandContext): LookUp {
  const quietly = async (list: (signal: AbortSignal) => AsyncIterable<string>): Promise<readonly string[]> => {
    const found: string[] = [];
    try {
      for await (const one of list(anyOf(context.signal, AbortSignal.timeout(ANSWER_MS)))) {
        found.push(one);
        if (found.length === MOST) break;
      }
    } catch {
      // what came before is shown
    }
    return found;
  };
  const listed = async (
    host: string,
    list: (
      registry: ReturnType<ReturnType<CommandContext['connect']>['registry']>,
      signal: AbortSignal,
    ) => AsyncIterable<string>,
  ): Promise<readonly string[]> => {
    await using backends = context.connect({ report: () => undefined });
    return await quietly((signal) => list(backends.registry(host, 'source'), signal));
  };
  return {
    hosts: () => context.knownRegistries(),
    repositories: (host, prefix) => listed(host, (registry, signal) => registry.repositories(prefix, { signal })),
    tags: (host, repository) => listed(host, (registry, signal) => registry.repository(repository).tags({ signal })),
  };
}
