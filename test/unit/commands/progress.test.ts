import assert from 'node:assert/strict';
import { test } from 'vitest';
import { startProgress, type ProgressOptions } from '../../../worker/commands/progress.ts';
import { formatTable } from '../../../worker/commands/table.ts';
import { formatBytes, formatDuration, printable } from '../../../worker/commands/text.ts';
import { reportAbout, type Event } from '../../../worker/util/events.ts';
import type { Clock } from '../../../worker/util/clock.ts';

/** A clock whose sleeps end when the test decides. */
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
  const screen = { write: (more: string) => (text += more), terminal: style === 'bars', columns: 120, rows: 40 };
  /** What the last redraw left on the screen. */
  const shown = (): string[] => (text.split('\u001b[2K').at(-1) ?? '').trimEnd().split('\n');
  return { clock, screen, progress: startProgress(screen, { clock, style, verbose }), text: () => text, shown };
}

/** Moves up a line and clears it. */
const ERASED = '\u001b[1A\u001b[2K';
const MIB = 1024 * 1024;
const digest = `sha256:${'12'.repeat(32)}`;

test('bars show bytes, rate and remaining time, per blob and in all', async () => {
  const { clock, progress, text } = start('bars');
  progress.report({ type: 'planned', blobs: 1, manifests: 1, bytes: 4 * 1024 * 1024 });
  progress.report({ type: 'blob-started', digest, bytes: 4 * 1024 * 1024 });
  progress.report({ type: 'blob-progress', digest, bytes: 1024 * 1024 });
  await clock.tick(1000);
  assert.match(text(), /sha256:1212121212.*1\.00 MiB \/ 4\.00 MiB\s+1\.00 MiB\/s\s+3\.0s/);
  assert.match(text(), /in all/);
  await progress.stop();
  assert.ok(text().endsWith(ERASED.repeat(2)), 'the bars are taken away at the end');
});

test('bars are below the name of their image, with a line for all images', async () => {
  const { clock, progress, shown } = start('bars');
  const [one, two] = ['docker://host/team/app:1', 'docker://host/team/app:2'];
  progress.report({ type: 'images-planned', images: 3 });
  for (const image of [one, two]) {
    progress.report({ type: 'planned', blobs: 1, manifests: 1, bytes: 2 * MIB, image });
    // the same layer, sent for both images
    progress.report({ type: 'blob-started', digest, bytes: 2 * MIB, image });
    progress.report({ type: 'blob-progress', digest, bytes: MIB, image });
  }
  await clock.tick(2000);
  assert.deepEqual(
    shown().map((line) => line.replace(/ [█░]+/, '')),
    [
      one,
      '  sha256:121212121212  1.00 MiB / 2.00 MiB  512.0 KiB/s   2.0s',
      two,
      '  sha256:121212121212  1.00 MiB / 2.00 MiB  512.0 KiB/s   2.0s',
      // no time: the size of the third image is not known
      '0 of 3 images          2.00 MiB / 4.00 MiB   1.00 MiB/s',
    ],
  );
  progress.report({ type: 'blob-done', digest, bytes: 2 * MIB, outcome: 'copied', image: one });
  progress.report({ type: 'image-done', image: one, outcome: 'copied', bytesSent: 2 * MIB });
  await clock.tick(100);
  assert.equal(shown().length, 3);
  assert.match(shown()[2] ?? '', /^1 of 3 images .*3\.00 MiB \/ 4\.00 MiB/);
  await progress.stop();
});

test('the remaining time is shown once every image is either planned or needs nothing', async () => {
  const { clock, progress, shown } = start('bars');
  const [one, two] = ['docker://host/team/app:1', 'docker://host/team/app:2'];
  progress.report({ type: 'images-planned', images: 2 });
  progress.report({ type: 'planned', blobs: 1, manifests: 1, bytes: 2 * MIB, image: one });
  progress.report({ type: 'blob-started', digest, bytes: 2 * MIB, image: one });
  progress.report({ type: 'blob-progress', digest, bytes: MIB, image: one });
  await clock.tick(1000);
  assert.match(shown()[2] ?? '', /^0 of 2 images .*MiB\/s$/);
  progress.report({ type: 'image-done', image: two, outcome: 'unchanged', bytesSent: 0 });
  await clock.tick(100);
  assert.match(shown()[2] ?? '', /^1 of 2 images .*KiB\/s +2\.0s$/);
  await progress.stop();
});

test('bars go on in a terminal that has no columns', async () => {
  const { clock, screen, progress } = start('bars');
  screen.columns = 0;
  progress.report({ type: 'planned', blobs: 1, manifests: 1, bytes: MIB });
  progress.report({ type: 'blob-started', digest, bytes: MIB });
  await clock.tick(1000);
  await clock.tick(1000);
  await progress.stop();
});

test.each([120, 80, 60, 40])('bars of %i columns keep the units of their sizes', async (columns) => {
  const { clock, screen, progress, shown } = start('bars');
  screen.columns = columns;
  const image = 'docker://111111111111.dkr.ecr.us-east-1.amazonaws.com/product/team/app:1.0.0-with-a-long-tag';
  progress.report({ type: 'planned', blobs: 1, manifests: 1, bytes: 1000 * MIB, image });
  progress.report({ type: 'blob-started', digest, bytes: 1000 * MIB, image });
  progress.report({ type: 'blob-progress', digest, bytes: 12 * MIB, image });
  await clock.tick(1000);
  for (const line of shown()) assert.ok(line.length < columns, line);
  assert.match(shown()[0] ?? '', /^docker:.*with-a-long-tag$/);
  if (columns > 40) assert.match(shown()[1] ?? '', /12\.0 MiB \/ 1000\.0 MiB/);
  await progress.stop();
});

test('a terminal that becomes narrower loses no line above the bars', async () => {
  const { clock, screen, progress, text } = start('bars');
  progress.report({ type: 'planned', blobs: 1, manifests: 1, bytes: 4 * MIB });
  progress.report({ type: 'blob-started', digest, bytes: 4 * MIB });
  await clock.tick(100);
  screen.columns = 40;
  // each of the two lines takes two of the narrower terminal
  await clock.tick(100);
  assert.ok(text().includes(`\n\r\u001b[2K${ERASED.repeat(4)}sha256`));
  await clock.tick(100);
  assert.ok(text().includes(`\n\r\u001b[2K${ERASED.repeat(2)}sha256`));
  await progress.stop();
});

test('more bars than the terminal has lines are counted instead', async () => {
  const { clock, screen, progress, shown } = start('bars');
  screen.rows = 6;
  progress.report({ type: 'planned', blobs: 20, manifests: 1, bytes: 20 });
  for (let i = 0; i < 20; i++)
    progress.report({ type: 'blob-started', digest: `sha256:${String(i).padStart(64, '0')}`, bytes: 1 });
  await clock.tick(100);
  assert.equal(shown().length, 5);
  assert.equal(shown()[3], '… 20 blobs at once');
  await progress.stop();
});

test('no time is shown where nothing moves any more', async () => {
  const { clock, progress, shown } = start('bars');
  progress.report({ type: 'planned', blobs: 1, manifests: 1, bytes: 4 * MIB });
  progress.report({ type: 'blob-started', digest, bytes: 4 * MIB });
  progress.report({ type: 'blob-progress', digest, bytes: MIB });
  await clock.tick(30_000);
  progress.report({ type: 'blob-progress', digest, bytes: 1 });
  await clock.tick(30_000);
  assert.match(shown()[0] ?? '', /1\.00 MiB \/ 4\.00 MiB$/);
  await progress.stop();
});

test('a pipe gets a line for each image, and a summary while work continues', async () => {
  const { clock, progress, text } = start('lines');
  const [image, to] = ['docker://host/app:1', 's3://bucket/app/1.tar'];
  progress.report({ type: 'images-planned', images: 2 });
  progress.report({ type: 'planned', blobs: 1, manifests: 1, bytes: 2048, image });
  progress.report({ type: 'blob-started', digest, bytes: 2048, image });
  progress.report({ type: 'blob-progress', digest, bytes: 1024, image });
  await clock.tick(10_000);
  progress.report({ type: 'blob-done', digest, bytes: 2048, outcome: 'copied', image });
  progress.report({ type: 'image-done', image, to, outcome: 'copied', bytesSent: 2048 });
  progress.report({ type: 'image-done', image, to, outcome: 'unchanged', bytesSent: 0 });
  progress.report({
    type: 'image-done',
    image,
    to,
    outcome: 'failed',
    bytesSent: 0,
    code: 'DENIED',
    message: 'the registry answered 403',
  });
  await progress.stop();
  assert.deepEqual(text().trimEnd().split('\n'), [
    'progress: 0 of 2 images, 1.00 KiB of 2.00 KiB, 102 B/s',
    `copied ${image} -> ${to}, 2.00 KiB sent`,
    `failed: ${image}: the registry answered 403`,
  ]);
});

test('a pipe gets a line for each event with --verbose', async () => {
  const { clock, progress, text } = start('lines', true);
  progress.report({ type: 'planned', blobs: 1, manifests: 1, bytes: 2048 });
  progress.report({ type: 'blob-started', digest, bytes: 2048 });
  progress.report({ type: 'blob-progress', digest, bytes: 1024 });
  await clock.tick(10_000);
  progress.report({ type: 'blob-done', digest, bytes: 2048, outcome: 'copied' });
  await progress.stop();
  assert.deepEqual(text().trimEnd().split('\n'), [
    'planned blobs=1 manifests=1 bytes=2048',
    `started blob ${digest} bytes=2048`,
    'progress: 1.00 KiB of 2.00 KiB, 102 B/s, 10s left',
    `copied blob ${digest} bytes=2048`,
  ]);
});

test('with --json every event is a line of JSON', async () => {
  const { progress, text } = start('json');
  progress.report({ type: 'tagged', name: 'v1', digest });
  await progress.stop();
  assert.deepEqual(JSON.parse(text()), { type: 'tagged', name: 'v1', digest });
});

test('a report about an image adds it to each event, except to those that name another', () => {
  const events: Event[] = [];
  const outer = reportAbout((event) => events.push(event), { rule: 'nightly', side: 'target' });
  const report = reportAbout(outer, { image: 'docker://host/app:1' });
  report({ type: 'tagged', name: 'v1', digest });
  report({ type: 'blob-started', digest, bytes: 1, image: 'docker://host/app:2' });
  const about = { rule: 'nightly', side: 'target' };
  assert.deepEqual(events, [
    { type: 'tagged', name: 'v1', digest, image: 'docker://host/app:1', ...about },
    { type: 'blob-started', digest, bytes: 1, image: 'docker://host/app:2', ...about },
  ]);
  assert.equal(Object.keys(events[0] ?? {})[0], 'type');
});

test('quiet still warns and names what failed, and messages cannot control the terminal', async () => {
  const { progress, text } = start('none');
  progress.report({ type: 'tagged', name: 'v1', digest });
  progress.report({ type: 'warning', message: 'evil \u001b[2Jtext\nwith a second line' });
  await progress.stop();
  assert.equal(text(), 'warning: evil  [2Jtext with a second line\n');
});

test('numbers are formatted for people', () => {
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
