// The page of a report in a real browser, where there is one.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { reportPage } from '../../worker/images/report-page.ts';
import { sampleReport } from '../support/sample-report.ts';

const run = promisify(execFile);

async function findBrowser(): Promise<string | undefined> {
  for (const name of ['chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome']) {
    const works = await run(name, ['--version']).then(
      () => true,
      () => false,
    );
    if (works) return name;
  }
  return undefined;
}

describe('the page of a report in headless Chromium', async () => {
  const browser = await findBrowser();
  const folder = await mkdtemp(join(tmpdir(), 'transship-report-'));
  afterAll(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, 'report.html');
  await writeFile(file, reportPage(sampleReport()));
  const flags = ['--headless', '--no-sandbox', '--disable-gpu', `--user-data-dir=${join(folder, 'profile')}`];

  test.skipIf(browser === undefined)('is parsed as it was written, and nothing of it is blocked', async () => {
    const { stdout, stderr } = await run(
      browser ?? '',
      [...flags, '--enable-logging=stderr', '--dump-dom', `file://${file}`],
      { maxBuffer: 16 * 1024 * 1024 },
    );
    expect(stdout).toContain('the role needs ecr:BatchGetImage on shop/audit');
    expect(stdout.match(/<svg class="heat"/g)).toHaveLength(16);
    expect(stderr).not.toMatch(/Content Security Policy|Refused to/);
  });

  test.skipIf(browser === undefined)('is drawn in light and dark, and on a phone', async () => {
    const shots = await Promise.all(
      [
        ['light', '1120,1500'],
        ['dark', '1120,1500', '--blink-settings=preferredColorScheme=0'],
        ['phone', '500,1500'],
      ].map(async ([name, size, ...more]) => {
        const image = join(folder, `${name}.png`);
        const own = `--user-data-dir=${join(folder, `profile-${name}`)}`;
        const args = [...flags.slice(0, 3), own, `--window-size=${size}`, `--screenshot=${image}`, ...more];
        await run(browser ?? '', [...args, `file://${file}`]);
        return readFile(image);
      }),
    );
    for (const shot of shots) expect(shot.byteLength).toBeGreaterThan(20_000);
    expect(shots[0]?.equals(shots[1] ?? Buffer.alloc(0))).toBe(false);
  });
});
