import { InvalidArgumentError, Option, type Command } from 'commander';
import { isPattern } from '../oci/location.ts';
import { Failure } from '../util/failure.ts';
import { inGroup } from './help.ts';

/** Flags that choose several images, and name them at the target. */
export interface ManyFlags {
  readonly imagesFrom?: string;
  readonly map?: readonly string[];
  readonly tags?: readonly string[];
  readonly semver?: string;
  readonly latest?: number;
}

/** Adds the flags that choose several images. */
export function withManyFlags(command: Command): Command {
  const several = (value: string, before: readonly string[] | undefined): readonly string[] => [
    ...(before ?? []),
    value,
  ];
  return inGroup(command, 'Several images:', (grouped) =>
    grouped
      .option(
        '--images-from <file>',
        'the images, one a line, instead of <src>; "#" begins a comment, and - is standard input',
      )
      .addOption(new Option('--tags <pattern>', 'tags that match, as rules choose them; repeatable').argParser(several))
      .option('--semver <range>', 'tags that are versions in this range, such as ">=3.18 <4"')
      .option('--latest <n>', 'of each repository the n highest versions of those', (value) => {
        if (/^[1-9]\d{0,5}$/.test(value)) return Number(value);
        throw new InvalidArgumentError('expected a whole number above 0.');
      })
      .addOption(
        new Option('--map <from=to>', 'other names for repositories, such as team/*=archive/*; repeatable').argParser(
          several,
        ),
      ),
  );
}

/** Whether `src` or the flags stand for several images. */
export function isMany(src: string, { imagesFrom, tags, semver, latest }: ManyFlags): boolean {
  return (
    imagesFrom !== undefined || tags !== undefined || semver !== undefined || latest !== undefined || isPattern(src)
  );
}

/**
 * The two arguments of a command whose first one `--images-from` replaces: then one argument is the destination. INVALID where one is
 * missing or too many.
 */
export function argumentsOf(
  first: string,
  second: string | undefined,
  { imagesFrom }: ManyFlags,
): { readonly src: string; readonly dst: string | undefined } {
  if (imagesFrom === undefined) return { src: first, dst: second };
  if (second !== undefined)
    throw new Failure('INVALID', '--images-from names the images: leave out <src>, and give the destination alone');
  return { src: '', dst: first };
}
