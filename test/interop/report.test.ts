// The page of a report in a real browser, where one is installed.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { reportPage } from '../../worker/images/report-page.ts';
import { findChromium, openChromium, type Chromium } from '../support/headless-chromium.ts';
import { sampleReport } from '../support/sample-report.ts';

const name = await findChromium();

describe.skipIf(name === undefined)('the page of a report in headless Chromium', () => {
  let folder: string;
  let url: string;
  let browser: Chromium;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'transship-report-'));
    url = pathToFileURL(join(folder, 'report.html')).href;
    await writeFile(join(folder, 'report.html'), reportPage(sampleReport()));
    browser = await openChromium(name ?? '');
  });
  afterAll(async () => {
    await browser[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  test('is shown whole, and nothing in it is blocked or requested from elsewhere', async () => {
    const page = await browser.render(url, { width: 1120, scheme: 'light' });
    expect(page.dom).toContain('the role needs ecr:BatchGetImage on shop/audit');
    expect(page.dom.match(/<svg class="heat"/g)).toHaveLength(16);
    expect(page.console).toEqual([]);
    expect(page.requests).toEqual([]);
  });

  test('follows the color scheme of the reader', async () => {
    const [light, dark] = await Promise.all(
      (['light', 'dark'] as const).map((scheme) => browser.render(url, { width: 1120, scheme })),
    );
    expect([light?.background, dark?.background]).toEqual(['rgb(246, 247, 249)', 'rgb(18, 22, 29)']);
  });

  test.each([390, 860])('is no wider than a screen of %i pixels', async (width) => {
    const page = await browser.render(url, { width, scheme: 'dark' });
    expect(page.width).toBe(width);
  });
});
