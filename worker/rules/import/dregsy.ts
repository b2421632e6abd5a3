import { ecrHost } from '../../oci/ecr-host.ts';
import { Failure } from '../../util/failure.ts';
import { isRecord } from '../../util/record.ts';
import { dregsyTags } from './dregsy-tags.ts';
import { replaceAll, repositoryPattern } from './expressions.ts';
import { Findings, lost, PLAIN, shown, type Note } from './mapping.ts';
import { attempt, NoRule } from './no-rule.ts';
import { INSECURE, nameOf, NOT_AN_IMAGE, ONE_PLATFORM, readImage } from './references.ts';
import type { FileValue, Shape } from './source-file.ts';
import { everySeconds } from './times.ts';

/** Keys that are about how dregsy itself works are left out: docs/import.md lists them. */
const FILE_KEYS = new Set(['relay', 'watch', 'skopeo', 'docker', 'dockerhost', 'api-version', 'lister', 'tasks']);
const TASK_KEYS = new Set(['name', 'interval', 'verbose', 'source', 'target', 'mappings']);
const LOCATION_KEYS = new Set(['registry', 'auth', 'auth-refresh', 'skip-tls-verify', 'lister']);
const MAPPING_KEYS = new Set(['from', 'to', 'tags', 'platform']);
/** https://github.com/xelalexv/dregsy: what a list of repositories has at most, if the file does not say. */
const LISTED = '100';

/** Whether it looks like a file of dregsy. */
export function isDregsy(value: FileValue): boolean {
  return isRecord(value) && Array.isArray(value['tasks']);
}

/** Reads a file of dregsy: https://github.com/xelalexv/dregsy */
export function readDregsy(value: FileValue, shape: Shape): Findings {
  const findings = new Findings();
  const file = shape.record('', value);
  for (const note of findings.keys('', file, FILE_KEYS)) findings.entries.push(note);
  const lister = shape.record('lister', file['lister'] ?? {});
  const most = shape.optionalText('lister.maxItems', lister['maxItems']) ?? LISTED;
  for (const [index, one] of shape.list('tasks', file['tasks']).entries()) {
    const where = `tasks[${index}]`;
    readTask(where, shape.record(where, one), { findings, shape, most });
  }
  return findings;
}

interface Reading {
  readonly findings: Findings;
  readonly shape: Shape;
  /** The limit on the repositories that are looked at. */
  readonly most: string;
}

interface Task {
  readonly name: string;
  readonly source: Location;
  readonly target: Location;
  readonly schedule: ReturnType<typeof everySeconds>['schedule'] | undefined;
}

interface Location {
  readonly registry: string;
  /** Whether repositories are listed by a search, or as those of a user of Docker Hub. */
  readonly isSearched: boolean;
}

function readTask(where: string, given: Readonly<Record<string, unknown>>, reading: Reading): void {
  const { findings, shape } = reading;
  for (const note of findings.keys(where, given, TASK_KEYS)) findings.entries.push(note);
  const name = shape.text(`${where}.name`, given['name']);
  const source = readLocation(`${where}.source`, given['source'], reading);
  const target = readLocation(`${where}.target`, given['target'], reading);
  const task = { name, source, target, schedule: readInterval(`${where}.interval`, given['interval'], reading) };
  for (const [index, one] of shape.list(`${where}.mappings`, given['mappings']).entries()) {
    const path = `${where}.mappings[${index}]`;
    try {
      readMapping(path, shape.record(path, one), task, reading);
    } catch (error) {
      if (!(error instanceof NoRule)) throw error;
      findings.lost(error.where, error.message);
    }
  }
}

function readInterval(where: string, given: FileValue, { findings, shape }: Reading): Task['schedule'] {
  const text = shape.optionalText(where, given) ?? '0';
  const seconds = Number(text);
  if (!/^[0-9]+$/.test(text)) throw shape.fail(where, 'a number of seconds');
  if (seconds === 0) {
    findings.lost(
      where,
      'without an interval the task runs once, when dregsy starts; a rule runs again on its schedule',
    );
    return undefined;
  }
  const { schedule, difference } = everySeconds(seconds);
  if (difference !== undefined) findings.lost(where, difference);
  return schedule;
}

function readLocation(where: string, given: FileValue, { findings, shape }: Reading): Location {
  const location = shape.record(where, given);
  for (const note of findings.keys(where, location, LOCATION_KEYS)) findings.entries.push(note);
  const registry = shape.text(`${where}.registry`, location['registry']);
  const auth = location['auth'];
  if (auth !== undefined && auth !== null && auth !== '' && auth !== 'none' && ecrHost(registry) === undefined)
    findings.credentials.add(registry);
  if (shape.optionalBoolean(`${where}.skip-tls-verify`, location['skip-tls-verify']) === true)
    findings.lost(`${where}.skip-tls-verify`, INSECURE);
  const lister = shape.record(`${where}.lister`, location['lister'] ?? {});
  const type = shape.optionalText(`${where}.lister.type`, lister['type']) ?? 'catalog';
  return { registry, isSearched: type !== 'catalog' };
}

function readMapping(where: string, given: Readonly<Record<string, unknown>>, task: Task, reading: Reading): void {
  const { findings, shape, most } = reading;
  const from = shape.text(`${where}.from`, given['from']);
  const to = shape.optionalText(`${where}.to`, given['to']);
  const notes: Note[] = [...findings.keys(where, given, MAPPING_KEYS)];
  const isPattern = from.startsWith('regex:');
  const place = isPattern ? patternPlace(where, from, to, task) : exactPlace(where, from, to, task);
  if (isPattern && !most.startsWith('-'))
    notes.push({
      where,
      text: `dregsy looked at ${most} repositories at most; the rule takes all that match`,
      lost: false,
    });
  const platform = shape.optionalText(`${where}.platform`, given['platform']);
  if (platform === undefined)
    notes.push(lost(where, 'it copied the platform of its machine; the rule copies every platform'));
  else if (platform !== 'all') notes.push(lost(`${where}.platform`, ONE_PLATFORM));
  const { sets, notes: ofTags } = dregsyTags(`${where}.tags`, shape.texts(`${where}.tags`, given['tags']));
  if (sets.length === 0) for (const note of [...notes, ...ofTags]) findings.entries.push(note);
  for (const [index, tags] of sets.entries())
    findings.add({
      ...PLAIN,
      ...place,
      where,
      name: task.name,
      group: task.name,
      tags,
      platforms: platform === undefined || platform === 'all' ? [] : [platform],
      schedule: task.schedule,
      // once is enough
      notes: index === 0 ? [...notes, ...ofTags] : [],
    });
}

interface Place {
  readonly from: readonly string[];
  readonly to: readonly string[];
}

/** Repositories by an expression; in front of their names stands `to`. */
function patternPlace(where: string, from: string, to: string | undefined, { source, target }: Task): Place {
  if (source.isSearched)
    throw new NoRule(
      where,
      'a rule finds repositories by the list of the registry, which Docker Hub does not have: name them',
    );
  const pattern = repositoryPattern(from.slice('regex:'.length));
  if (pattern === undefined)
    throw new NoRule(`${where}.from`, `${shown(from)}: sources have * and {a,b}, and no other expressions`);
  if (to?.startsWith('regex:') === true)
    throw new NoRule(`${where}.to`, `${shown(to)}: a rule puts something in front of names, and does not rewrite them`);
  const prefix = (to ?? '').replace(/^\/+|\/+$/g, '');
  return {
    from: [`${source.registry}/${pattern}`],
    to: [`${target.registry}/${prefix === '' ? '' : `${prefix}/`}{repository}`],
  };
}

function exactPlace(where: string, from: string, to: string | undefined, { source, target }: Task): Place {
  const path = from.startsWith('/') ? from : `/${from}`;
  const written = to === undefined ? path : to.startsWith('regex:') ? rewritten(where, path, to) : to;
  const [image, copy] = [
    readImage(`${source.registry}${path}`),
    readImage(`${target.registry}${written.startsWith('/') ? written : `/${written}`}`),
  ];
  for (const [one, key] of [
    [image, 'from'],
    [copy, 'to'],
  ] as const)
    if (one === undefined || one.tag !== undefined || one.digest !== undefined)
      throw new NoRule(`${where}.${key}`, NOT_AN_IMAGE);
  if (image === undefined || copy === undefined) throw new Failure('BUG', 'an image was checked and is not there');
  return { from: [nameOf(image)], to: [nameOf(copy)] };
}

/** `regex:expression,replacement`, done to the path. */
function rewritten(where: string, path: string, to: string): string {
  const [expression = '', ...rest] = to.slice('regex:'.length).split(',');
  if (rest.length === 0) throw new NoRule(`${where}.to`, `${shown(to)}: it has no replacement`);
  const written = attempt(`${where}.to`, to, () => replaceAll(path, expression, rest.join(',')));
  if (!written.startsWith('/')) throw new NoRule(`${where}.to`, NOT_AN_IMAGE);
  return written;
}
