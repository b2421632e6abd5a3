import { randomUUID } from 'node:crypto';
import type { Abortable } from '../util/abort.ts';
import type { Clock } from '../util/clock.ts';
import { Failure } from '../util/failure.ts';
import type { Rules, StoredRule } from './state.ts';
import {
  findNumber,
  findText,
  keyOf,
  numberOf,
  textOf,
  type Item,
  type Key,
  type Table,
  type Updated,
} from './table.ts';

const PK = 'RULES';
const PREFIX = 'RULE#';
/** An item has 400 KB at most. */
const MAX_DOCUMENT_BYTES = 300 * 1024;
/** How long a deleted rule is remembered, so that a process that read it before cannot bring it back. */
const REMEMBERED_SECONDS = 90 * 24 * 3600;

/** Rules and access by revision. A deleted rule stays as a mark with its revision, which the next of its name counts on from. */
export function rulesOver(table: Table, clock: Clock): Rules {
  const put = async (
    key: Key,
    what: string,
    document: string,
    revision: number,
    options?: Abortable,
  ): Promise<Item> => {
    const bytes = Buffer.byteLength(document);
    if (bytes > MAX_DOCUMENT_BYTES)
      throw new Failure('INVALID', `store ${what}: it has ${bytes} bytes, ${MAX_DOCUMENT_BYTES} are allowed: split it`);
    const found = revision === 0 ? await table.get(key, options) : undefined;
    const before = revision === 0 ? findNumber(found, 'revision') : revision;
    const mark = randomUUID();
    const set = {
      document,
      mark,
      appliedAtMs: clock.now(),
      revision: (before ?? 0) + 1,
      deleted: undefined,
      ttl: undefined,
    };
    const expected = { revision: before, deleted: revision === 0 && found !== undefined ? true : undefined };
    return checkDone(await table.update(key, { set }, expected, options), mark, `store ${what}`);
  };
  return {
    list: async (options) => {
      const rules: StoredRule[] = [];
      for await (const item of table.query(PK, { ...options, prefix: PREFIX }))
        if (item['deleted'] !== true) rules.push(ruleOf(item));
      return rules;
    },

    put: async ({ name, document }, revision, options) =>
      ruleOf(await put(keyOf(PK, PREFIX + name), `rule ${name}`, document, revision, options)),

    remove: async (name, revision, options) => {
      const mark = randomUUID();
      const ttl = Math.ceil(clock.now() / 1000) + REMEMBERED_SECONDS;
      const set = { deleted: true, document: undefined, mark, revision: revision + 1, ttl };
      const removed = await table.update(keyOf(PK, PREFIX + name), { set }, { revision, deleted: undefined }, options);
      if (removed.item !== undefined && removed.item['deleted'] !== true)
        checkDone(removed, mark, `delete rule ${name}`);
    },

    access: async (options) => {
      const item = await table.get(ACCESS, options);
      return item && { document: textOf(item, 'document'), revision: numberOf(item, 'revision') };
    },

    putAccess: async (document, revision, options) => {
      await put(ACCESS, 'the access to registries', document, revision, options);
    },
  };
}

const ACCESS = keyOf(PK, 'ACCESS');

/** CONFLICT unless it was done, by this or by an earlier try whose answer was lost. */
function checkDone(updated: Updated, mark: string, doing: string): Item {
  if (updated.item !== undefined && findText(updated.item, 'mark') === mark) return updated.item;
  throw new Failure('CONFLICT', `${doing}: another process changed it in the meantime: look at it again`);
}

function ruleOf(item: Item): StoredRule {
  return {
    name: item.sk.slice(PREFIX.length),
    document: textOf(item, 'document'),
    appliedAtMs: numberOf(item, 'appliedAtMs'),
    revision: numberOf(item, 'revision'),
  };
}
