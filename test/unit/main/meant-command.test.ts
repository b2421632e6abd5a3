import { expect, test } from 'vitest';
import { meantCommand } from '../../../worker/main/meant-command.ts';

const COMMANDS = [
  'copy',
  'inspect',
  'list',
  'ls',
  'sync',
  'snapshots',
  'stats',
  'status',
  'backup',
  'prune',
  'restore',
];

test.each([
  ['pull', 'copy'],
  ['tags', 'list'],
  ['images', 'list'],
  ['sync-images', 'sync'],
  ['snap', 'snapshots'],
  ['bakcup', 'backup'],
  ['COPY', 'copy'],
  ['rm', 'prune'],
])('suggests for %s the command %s', (word, meant) => {
  expect(meantCommand(word, COMMANDS)).toBe(meant);
});

test.each(['frobnicate', 'x', 'constructor'])('suggests nothing for %s', (word) => {
  expect(meantCommand(word, COMMANDS)).toBeUndefined();
});

test('suggests no command that the program does not have', () => {
  expect(meantCommand('pull', ['list'])).toBeUndefined();
});
