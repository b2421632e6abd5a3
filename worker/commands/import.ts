import { open } from 'node:fs/promises';
import { Option, type Command } from 'commander';
import type { ImportedFile, ImportRequest } from '../rules/import/import.ts';
import type { ItemAttribute } from '../state/table-items.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { printDocument, withCommonFlags, type CommandContext, type CommonFlags } from './context.ts';
import { counted, printable } from './text.ts';

interface ImportFlags extends CommonFlags {
  readonly schedule?: string;
}

interface SkopeoFlags extends ImportFlags {
  readonly to: string;
  readonly scoped?: boolean;
  readonly all?: boolean;
  readonly appendSuffix?: string;
}

/** The most bytes that are read of a file: more than `importRules` takes. */
const MAX_READ_BYTES = 1024 * 1024 + 1;
/** The most items of a table: more rules than one rules file has room for. */
const MAX_ITEMS = 10_000;
/** The most characters of all of them, some times more than a rules file has. */
const MAX_CHARACTERS = 16 * 1024 * 1024;

export function addImport(program: Command, context: CommandContext): void {
  const parent = program
    .command('import')
    .summary("make a rules file from another tool's configuration")
    .description(
      'Prints a rules file made of the configuration of another tool: docs/import.md. What a rule cannot do exactly so is a comment beside it and a line on stderr, and the exit code is 3. Credentials are never printed.',
    );
  const withFlags = (command: Command): Command =>
    withCommonFlags(
      command.option('--schedule <cron>', 'when rules run whose file does not say (default: "0 2 * * *", UTC)'),
    );

  withFlags(
    parent
      .command('cuppett')
      .summary('the table of cuppett/aws-ecr-mirror')
      .addOption(new Option('--table <name>', 'the DynamoDB table').makeOptionMandatory()),
  ).action(async (flags: ImportFlags & { readonly table: string }) => {
    const items = await allItems(context, flags.table);
    await print(context, flags, { tool: 'cuppett', table: flags.table, items });
  });

  withFlags(
    parent
      .command('skopeo-sync')
      .summary('a file of skopeo sync --src yaml')
      .argument('<file>', 'YAML')
      .addOption(new Option('--to <host/path>', 'the destination, as skopeo sync was given it').makeOptionMandatory())
      .option('--scoped', 'skopeo sync ran with --scoped')
      .option('--all', 'skopeo sync ran with --all')
      .option('--append-suffix <suffix>', 'skopeo sync ran with --append-suffix'),
  ).action(async (file: string, flags: SkopeoFlags) => {
    const { to, scoped, all, appendSuffix } = flags;
    const source = await readBounded(file);
    await print(context, flags, { tool: 'skopeo-sync', source, options: { to, scoped, all, appendSuffix } });
  });

  for (const tool of ['regsync', 'dregsy'] as const)
    withFlags(parent.command(tool).summary(`a file of ${tool}`).argument('<file>', 'YAML or JSON')).action(
      async (file: string, flags: ImportFlags) => {
        await print(context, flags, { tool, source: await readBounded(file) });
      },
    );

  withFlags(
    parent
      .command('image-syncer')
      .summary('files of image-syncer')
      .argument('<file>', 'images, or the older file of images and auth; YAML or JSON')
      .option('--auth <file>', 'the file of credentials: the registries that need some are named'),
  ).action(async (file: string, flags: ImportFlags & { readonly auth?: string }) => {
    const source = await readBounded(file);
    const auth = flags.auth === undefined ? undefined : await readBounded(flags.auth);
    await print(context, flags, { tool: 'image-syncer', source, auth });
  });
}

async function print(context: CommandContext, flags: ImportFlags, request: ImportRequest): Promise<void> {
  // the code that reads rules takes a while to load: only this command waits for it
  const { importRules } = await import('../rules/import/import.ts');
  const { text, rules, notCarriedOver } = importRules(request, { schedule: flags.schedule });
  printDocument(context, flags, { rules, notCarriedOver, text }, () => text.trimEnd());
  if (notCarriedOver.length === 0) return;
  if (flags.json !== true)
    context.stderr.write(notCarriedOver.map((line) => `not carried over: ${printable(line)}\n`).join(''));
  context.exit(3, `${counted(notCarriedOver.length, 'setting')} not carried over`);
}

async function allItems(
  context: CommandContext,
  table: string,
): Promise<readonly Readonly<Record<string, ItemAttribute>>[]> {
  const items: Readonly<Record<string, ItemAttribute>>[] = [];
  let characters = 0;
  for await (const item of context.tableItems(table)) {
    characters += JSON.stringify(item).length;
    if (items.push(item) > MAX_ITEMS || characters > MAX_CHARACTERS)
      throw new Failure(
        'UNSUPPORTED',
        `read table ${table}: it has more than ${MAX_ITEMS} items, or more than 16 MiB: too much for one rules file`,
      );
  }
  return items;
}

/** The text of a file, or as much as shows that it is too large. NOT_FOUND without the file. */
async function readBounded(file: string): Promise<ImportedFile> {
  try {
    await using handle = await open(file);
    const buffer = Buffer.alloc(MAX_READ_BYTES);
    let size = 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, size, buffer.byteLength - size);
      size += bytesRead;
      if (bytesRead === 0 || size === buffer.byteLength) break;
    }
    return { text: buffer.toString('utf8', 0, size).replace(/^\uFEFF/, ''), file };
  } catch (cause) {
    const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
    const why = isMissing ? 'there is no such file' : 'it cannot be read';
    throw new Failure('NOT_FOUND', `the configuration in ${quote(file)}: ${why}`, { cause });
  }
}
