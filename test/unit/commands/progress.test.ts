import assert from 'node:assert/strict';
import { test } from 'vitest';
import { startProgress, type ProgressOptions } from '../../../worker/commands/progress.ts';
import { formatTable } from '../../../worker/commands/table.ts';
import { formatBytes, formatDuration, printable } from '../../../worker/commands/text.ts';
import type { Clock } from '../../../worker/util/clock.ts';

/** A clock whose sleeps end when the test says so. */
function manualClock(): Clock & { now: () => number; tick(ms: number): Promise<void> } {
  let nowMs = 0;
  let wake: (() => void) | undefined;
  return {
    now: () => nowMs,
    random: () => 0,
    sleep: (_, o) =>
      new Promise((resolve, reject) => {
        wake = resolve;
        o?.signal?.addEventListener('abort', () => reject(new Error('stopped')));
      }),
    tick: async (ms) => {
      nowMs += ms;
      wake?.();
      for (let i = 0; i < 5; i++) await Promise.resolve();
    },
  };
}

function start(style: ProgressOptions['style'], verbose = false) {
  const clock = manualClock();
  let text = '';
  const screen = { write: (more: string) => (text += more), terminal: style === 'bars', columns: 120 };
  return { clock, progress: startProgress(screen, { clock, style, verbose }), text: () => text };
}

const digest = `sha256:${'12'.repeat(32)}`;

test('bars show bytes, rate and the time that is left, per blob and in all', async () => {
  const { clock, progress, text } = start('bars');
  progress.report({ type: 'planned', blobs: 1, manifests: 1, bytes: 4 * 1024 * 1024 });
  progress.report({ type: 'blob-started', digest, bytes: 4 * 1024 * 1024 });
  progress.report({ type: 'blob-progress', digest, bytes: 1024 * 1024 });
  await clock.tick(1000);
  assert.match(text(), /sha256:1212121212.*1\.00 MiB \/ 4\.00 MiB\s+1\.00 MiB\/s\s+3\.0s/);
  assert.match(text(), /in all/);
  await progress.stop();
  assert.ok(text().endsWith('\u001b[2A\u001b[0J'), 'the bars are taken away at the end');
});

test('a pipe gets a line an event, and a summary while work goes on', async () => {
  const { clock, progress, text } = start('lines');
  progress.report({ type: 'planned', blobs: 1, manifests: 1, bytes: 2048 });
  progress.report({ type: 'blob-started', digest, bytes: 2048 });
  progress.report({ type: 'blob-progress', digest, bytes: 1024 });
  await clock.tick(10_000);
  progress.report({ type: 'blob-done', digest, bytes: 2048, outcome: 'copied' });
  await progress.stop();
  assert.deepEqual(text().trimEnd().split('\n'), [
    'planned blobs=1 manifests=1 bytes=2048',
    'progress bytes=1024 of=2048 rate="102 B/s" active=1 eta=10s',
    `copied blob ${digest} bytes=2048`,
  ]);
});

test('with --json every event is a line of JSON', async () => {
  const { progress, text } = start('json');
  progress.report({ type: 'tagged', name: 'v1', digest });
  await progress.stop();
  assert.deepEqual(JSON.parse(text()), { type: 'tagged', name: 'v1', digest });
});

test('quiet still warns, and others cannot steer the terminal through a message', async () => {
  const { progress, text } = start('none');
  progress.report({ type: 'tagged', name: 'v1', digest });
  progress.report({ type: 'warning', message: 'evil \u001b[2Jtext\nwith a second line' });
  await progress.stop();
  assert.equal(text(), 'warning: evil  [2Jtext with a second line\n');
});

test('numbers for people', () => {
  assert.equal(formatBytes(0), '0 B');
  assert.equal(formatBytes(1536), '1.50 KiB');
  assert.equal(formatBytes(52_000 * 1024 * 1024), '50.8 GiB');
  assert.equal(formatDuration(900), '0.9s');
  assert.equal(formatDuration(75_000), '1m15s');
  assert.equal(formatDuration(3_660_000), '1h01m');
  assert.equal(
    formatTable(
      ['name', '>n'],
      [
        ['a', '1'],
        ['long', '22'],
      ],
    ),
    'name   n\n----  --\na      1\nlong  22',
  );
  assert.equal(printable('a\tb'), 'a b');
});
