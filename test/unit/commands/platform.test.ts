import assert from 'node:assert/strict';
import { Command } from 'commander';
import { test } from 'vitest';
import { platformOption } from '../../../worker/commands/result.ts';

test('--platform before the arguments does not consume them, and may be passed twice', () => {
  const command = new Command().argument('<src>').argument('<dst>').addOption(platformOption());
  command.parse(['--platform', 'linux/amd64', '--platform', 'linux/arm64', 'from', 'to'], { from: 'user' });
  assert.deepEqual(command.args, ['from', 'to']);
  assert.deepEqual(command.opts(), { platform: ['linux/amd64', 'linux/arm64'] });
});

test('without --platform there is no choice', () => {
  const command = new Command().addOption(platformOption());
  command.parse([], { from: 'user' });
  assert.equal(command.opts()['platform'], undefined);
});
