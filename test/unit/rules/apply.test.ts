import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { describe, test } from 'vitest';
import { differencesOf, planApply, type Document } from '../../../worker/rules/apply.ts';

const rule = (name: string, value: unknown): Document => ({ name, document: JSON.stringify(value) });

describe('planApply', () => {
  test('adds, changes, removes and leaves alone, in order of names', () => {
    const changes = planApply(
      [rule('gone', {}), rule('kept', { a: 1 }), rule('moved', { schedule: { cron: '0 * * * *' } })],
      [rule('moved', { schedule: { cron: '0 2 * * *' } }), rule('kept', { a: 1 }), rule('born', {})],
    );
    assert.deepEqual(
      changes.map(({ name, change, differences }) => [name, change].concat(differences)),
      [
        ['born', 'add'],
        ['gone', 'remove'],
        ['kept', 'same'],
        ['moved', 'change', 'schedule.cron: "0 * * * *" → "0 2 * * *"'],
      ],
    );
  });

  test('a stored rule that is not JSON differs in everything', () => {
    const [change] = planApply([{ name: 'x', document: 'mirror: old' }], [rule('x', { a: 1 })]);
    assert.deepEqual(change?.differences, ['all: "mirror: old" → {"a":1}']);
  });

  test('makes the stored rules the wanted ones when it is executed', () => {
    const rules = fc.uniqueArray(fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.jsonValue()), {
      selector: ([name]) => name,
    });
    fc.assert(
      fc.property(rules, rules, (before, after) => {
        const stored = new Map<string, string>(before.map(([name, value]) => [name, JSON.stringify(value)]));
        const wanted = new Map<string, string>(after.map(([name, value]) => [name, JSON.stringify(value)]));
        const documents = (from: ReadonlyMap<string, string>): readonly Document[] =>
          [...from].map(([name, document]) => ({ name, document }));
        for (const { name, change, document } of planApply(documents(stored), documents(wanted))) {
          if (change === 'same') assert.deepEqual(JSON.parse(stored.get(name) ?? ''), JSON.parse(document ?? ''));
          else if (document === undefined) stored.delete(name);
          else stored.set(name, document);
        }
        assert.deepEqual([...stored.keys()].sort(), [...wanted.keys()].sort());
        for (const [name, document] of wanted) {
          assert.deepEqual(JSON.parse(stored.get(name) ?? ''), JSON.parse(document));
        }
      }),
    );
  });
});

describe('differencesOf', () => {
  test('names what exists on one side only', () => {
    assert.deepEqual(differencesOf({ a: { b: 1 } }, { a: { c: [2] } }), ['a.b: 1 → none', 'a.c: none → [2]']);
  });
});
