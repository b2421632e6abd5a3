import { suggest } from '../util/suggest.ts';

/** The command that does what a command of another tool does. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  append: 'copy',
  catalog: 'list',
  cat: 'inspect',
  check: 'verify',
  config: 'inspect',
  cp: 'copy',
  delete: 'prune',
  digest: 'inspect',
  download: 'copy',
  export: 'backup',
  gc: 'prune',
  image: 'inspect',
  images: 'list',
  load: 'copy',
  manifest: 'inspect',
  mirror: 'sync',
  pull: 'copy',
  push: 'copy',
  queue: 'status',
  repo: 'list',
  repositories: 'list',
  rm: 'prune',
  run: 'sync',
  save: 'backup',
  start: 'local',
  tag: 'copy',
  tags: 'list',
  upload: 'publish',
};

/**
 * The command that was probably meant by `word`: one that is mistyped, one that `word` begins with (`sync-images`) or
 * begins (`snap`), or the one for a command of other tools (`pull`).
 */
export function meantCommand(word: string, commands: readonly string[]): string | undefined {
  const lower = word.toLowerCase();
  const elsewhere = Object.hasOwn(ELSEWHERE, lower) ? ELSEWHERE[lower] : undefined;
  if (elsewhere !== undefined && commands.includes(elsewhere)) return elsewhere;
  const longer = commands.find((name) => lower.startsWith(`${name}-`) || lower.startsWith(`${name}_`));
  if (longer !== undefined) return longer;
  const begun = lower.length < 2 ? [] : commands.filter((name) => name.startsWith(lower));
  return begun.length === 1 ? begun[0] : suggest(lower, commands);
}
