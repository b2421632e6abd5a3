import { ecrHost } from '../../oci/ecr-host.ts';
import type { ItemAttribute } from '../../state/table-items.ts';
import { Failure, isFailure } from '../../util/failure.ts';
import { parseConfig, parseRule } from '../config.ts';
import { checkConflicts, type RuleInFile } from '../conflicts.ts';
import { checkSchedule } from '../schedule.ts';
import { MAX_YAML_BYTES } from '../yaml.ts';
import { readCuppett } from './cuppett.ts';
import { isDregsy, readDregsy } from './dregsy.ts';
import { isImageSyncer, isImageSyncerAuth, readImageSyncer } from './image-syncer.ts';
import { formatNote, lost, type Findings, type Note } from './mapping.ts';
import { isRegsync, readRegsync } from './regsync.ts';
import { credentialNote, draftRules, writeRulesFile, type RuleDraft } from './rules-file.ts';
import { withoutSharedDestinations } from './shared-destinations.ts';
import { isSkopeoSync, readSkopeoSync, type SkopeoOptions } from './skopeo-sync.ts';
import { readSourceFile, Shape, type FileValue } from './source-file.ts';

/** What a file holds, and its name in messages. */
export interface ImportedFile {
  readonly text: string;
  readonly file: string;
}

export type ImportRequest =
  | { readonly tool: 'skopeo-sync'; readonly source: ImportedFile; readonly options: SkopeoOptions }
  | { readonly tool: 'regsync' | 'dregsy'; readonly source: ImportedFile }
  | { readonly tool: 'image-syncer'; readonly source: ImportedFile; readonly auth?: ImportedFile | undefined }
  | {
      readonly tool: 'cuppett';
      readonly table: string;
      readonly items: readonly Readonly<Record<string, ItemAttribute>>[];
    };

export interface ImportResult {
  /** A rules file, which `parseConfig` reads. */
  readonly text: string;
  readonly rules: number;
  /** What could not be carried over, one line each; the same is beside the rules in the text. */
  readonly notCarriedOver: readonly string[];
}

/** When rules run whose file does not say. */
const DEFAULT_SCHEDULE = '0 2 * * *';
/** The most times that rules are compared with each other. Each time up to fifty that write what others do are left out. */
const MAX_ROUNDS = 20;

/**
 * The configuration of another tool as a rules file. No credential is copied. INVALID for a file that is not one of the tool, that names no
 * images, or whose rules would be more than a rules file may have.
 *
 * @param schedule Cron of rules whose file does not say when they run. Default `DEFAULT_SCHEDULE`
 */
export function importRules(
  request: ImportRequest,
  { schedule = DEFAULT_SCHEDULE }: { readonly schedule?: string | undefined } = {},
): ImportResult {
  checkSchedule({ cron: schedule, timeZone: 'UTC' }, 0);
  const findings = readRequest(request);
  const where = request.tool === 'cuppett' ? `table ${request.table}` : request.source.file;
  if (findings.entries.length === 0) throw new Failure('INVALID', `read ${where}: it names no images`);
  // ECR is reached with the credentials of AWS
  const credentials = [...findings.credentials].filter((host) => ecrHost(host) === undefined);
  const textOf = (drafts: readonly (RuleDraft | Note)[]): string =>
    writeRulesFile({ drafts, header: headerOf(request, drafts, schedule), credentials });
  const drafts = draftRules(withoutSharedDestinations(findings), { cron: schedule });
  // before rules are checked and compared, which takes a while where there are many
  const bytes = Buffer.byteLength(textOf(drafts));
  if (bytes > MAX_YAML_BYTES)
    throw new Failure(
      'INVALID',
      `import ${where}: the rules would have ${bytes} bytes; ${MAX_YAML_BYTES} is the most that is allowed: split it`,
    );
  const { valid, text } = validated(drafts.map(checkedAlone), textOf);
  const notes = [...credentials.map(credentialNote), ...valid.flatMap(notesOf)];
  return {
    text,
    rules: valid.filter((draft) => 'document' in draft).length,
    notCarriedOver: [...new Set(notes.filter((note) => note.lost).map(formatNote))],
  };
}

function notesOf(draft: RuleDraft | Note): readonly Note[] {
  return 'document' in draft ? draft.notes : [draft];
}

function readRequest(request: ImportRequest): Findings {
  if (request.tool === 'cuppett') {
    const { table, items } = request;
    if (items.length > 0 && items.every(({ Source: source }) => source === undefined))
      throw new Failure(
        'INVALID',
        `read table ${table}: it is not a table of aws-ecr-mirror: no item has a Source: check the name`,
      );
    return readCuppett(items);
  }
  const { text, file } = request.source;
  const value = readSourceFile(text, file);
  const shape = new Shape(file);
  refuseOthers(request.tool, value, file);
  switch (request.tool) {
    case 'skopeo-sync':
      return readSkopeoSync(value, shape, request.options);
    case 'regsync':
      return readRegsync(value, shape);
    case 'dregsy':
      return readDregsy(value, shape);
    case 'image-syncer': {
      const { auth } = request;
      const credentials = auth === undefined ? undefined : readSourceFile(auth.text, auth.file);
      return readImageSyncer(value, credentials, shape);
    }
    default:
      return request satisfies never;
  }
}

type FileTool = Exclude<ImportRequest['tool'], 'cuppett'>;

/** In the order in which they are recognized. */
const LOOKS: readonly (readonly [FileTool, (value: FileValue) => boolean])[] = [
  ['regsync', isRegsync],
  ['dregsy', isDregsy],
  ['skopeo-sync', isSkopeoSync],
  ['image-syncer', isImageSyncer],
];

const EXPECTED: Readonly<Record<FileTool, string>> = {
  'skopeo-sync': 'registries, each with images, images-by-tag-regex or images-by-semver',
  regsync: 'a list "sync"',
  dregsy: 'a list "tasks"',
  'image-syncer': 'images, each with its destination',
};

/** INVALID for what does not look like a file of the tool, naming the tool that it may be of. */
function refuseOthers(tool: FileTool, value: FileValue, file: string): void {
  const looks = LOOKS.find(([, isOne]) => isOne(value))?.[0];
  if (looks === tool) return;
  if (tool === 'image-syncer' && isImageSyncerAuth(value))
    throw new Failure(
      'INVALID',
      `read ${file}: it is the file of credentials: import the file of images, and name this one with --auth`,
    );
  const other = looks === undefined ? '' : `; it looks like one of ${looks}: transship import ${looks}`;
  throw new Failure('INVALID', `read ${file}: it is not a file of ${tool}: expected ${EXPECTED[tool]}${other}`);
}

function headerOf(request: ImportRequest, drafts: readonly (RuleDraft | Note)[], schedule: string): readonly string[] {
  const of =
    request.tool === 'cuppett'
      ? `table ${request.table} of aws-ecr-mirror`
      : `${request.source.file} of ${request.tool}`;
  const isTimed = request.tool === 'regsync' || request.tool === 'dregsy';
  const losses = drafts.some((draft) => ('document' in draft ? draft.notes.some((note) => note.lost) : draft.lost));
  return [
    `Made by transship import from ${of}.`,
    isTimed
      ? `Schedules are in UTC. A rule without a time of its own runs at ${schedule}.`
      : `The rules run at ${schedule} (UTC): what it was made from has no times.`,
    'Signatures and SBOMs come along with their images, unless a rule has `referrers: false`.',
    ...(losses
      ? ['Comments that begin with "not carried over" say where the rules differ from what they were made from.']
      : []),
  ];
}

/** The drafts as a valid rules file, with a note in the place of each rule that is refused. INVALID after `MAX_ROUNDS`. */
function validated(
  drafts: readonly (RuleDraft | Note)[],
  textOf: (drafts: readonly (RuleDraft | Note)[]) => string,
): { readonly valid: readonly (RuleDraft | Note)[]; readonly text: string } {
  let valid = drafts;
  for (let round = 0; ; round++) {
    const text = textOf(valid);
    try {
      parseConfig(text, { file: 'the rules' });
      return { valid, text };
    } catch (error) {
      const left = round < MAX_ROUNDS && isFailure(error, 'INVALID') ? withoutRefused(valid) : valid;
      if (left === valid) throw error;
      valid = left;
    }
  }
}

/** The drafts without rules that conflict with others; all of them where no rule conflicts. */
function withoutRefused(drafts: readonly (RuleDraft | Note)[]): readonly (RuleDraft | Note)[] {
  const rules = drafts.flatMap((draft, index): readonly RuleInFile[] =>
    'document' in draft ? [{ rule: parseRule(JSON.stringify(draft.document)), path: [index] }] : [],
  );
  const refused = new Map(checkConflicts(rules).map(({ path: [index], message }) => [index, message]));
  if (refused.size === 0) return drafts;
  return drafts.map((draft, index) => {
    const why = refused.get(index);
    return why === undefined || !('document' in draft) ? draft : lost(draft.where, why);
  });
}

/** The draft, or why the rules file does not take it. */
function checkedAlone(draft: RuleDraft | Note): RuleDraft | Note {
  if (!('document' in draft)) return draft;
  try {
    const rule = parseRule(JSON.stringify(draft.document));
    const [fault] = checkConflicts([{ rule, path: [] }]);
    return fault === undefined ? draft : lost(draft.where, fault.message);
  } catch (error) {
    if (!isFailure(error, 'INVALID')) throw error;
    const faults = error.message.split('\n').slice(1);
    return lost(draft.where, faults.map((line) => line.replace(/^[\w.[\]]+: /, '')).join('; '));
  }
}
