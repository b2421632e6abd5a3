import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { expectedBy, messageOf, valueAt } from '../../../worker/util/schema-faults.ts';

function issueOf(schema: z.ZodType, value: unknown): z.core.$ZodIssue {
  const issue = schema.safeParse(value).error?.issues[0];
  if (issue === undefined) throw new Error('it fits');
  return issue;
}

describe('what a schema expected', () => {
  test.each<[z.ZodType, unknown, string]>([
    [z.string(), 1, 'a string'],
    [z.number(), '1', 'a number'],
    [z.int(), 1.5, 'a whole number'],
    [z.boolean(), 1, 'true or false'],
    [z.array(z.string()), 1, 'a list'],
    [z.object({}), 1, 'a mapping of keys to values'],
    [z.record(z.string(), z.string()), 1, 'a mapping of keys to values'],
    [z.date(), 1, 'date'],
    [z.enum(['a', 'b']), 'c', '"a" or "b"'],
    [z.literal(1), 2, '1'],
    [z.array(z.string()).min(1), [], 'one entry at least'],
    [z.array(z.string()).max(1), ['a', 'b'], 'at most 1 entries'],
    [z.number().min(1), 0, 'at least 1'],
    [z.number().positive(), 0, 'more than 0'],
    [z.number().max(1), 2, 'at most 1'],
    [z.string().regex(/a/, 'a name'), 'b', 'a name'],
  ])('%# is in words', (schema, value, expected) => expect(expectedBy(issueOf(schema, value))).toBe(expected));

  test('is an object where the format has objects', () => {
    expect(expectedBy(issueOf(z.object({}), 1), { object: 'an object' })).toBe('an object');
  });
});

describe('the message', () => {
  test('for a wrong type is in our words', () => {
    expect(messageOf(issueOf(z.string(), 1))).toBe('expected a string');
  });

  test.each([
    [z.string('expected a name'), 1, 'expected a name'],
    [z.string().regex(/a/, 'expected an a'), 'b', 'expected an a'],
  ])('of a schema stays: %#', (schema, value, message) => expect(messageOf(issueOf(schema, value))).toBe(message));
});

test('a path leads to a value, or to nothing', () => {
  const value = { list: [{ name: 'a' }], toString: 'b' };
  expect(valueAt(value, [])).toBe(value);
  expect(valueAt(value, ['list', 0, 'name'])).toBe('a');
  expect(valueAt(value, ['toString'])).toBe('b');
  expect(valueAt({}, ['toString'])).toBeUndefined();
  expect(valueAt(value, ['list', 'name'])).toBeUndefined();
  expect(valueAt(value, ['list', 0, 'name', 'more'])).toBeUndefined();
});
