// Writes docs/report.png: the page of the sample report in a browser.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { reportPage } from '../../worker/images/report-page.ts';
import { findChromium, openChromium } from './headless-chromium.ts';
import { sampleReport } from './sample-report.ts';

const { values } = parseArgs({
  options: {
    width: { type: 'string', default: '1120' },
    dark: { type: 'boolean', default: false },
    to: { type: 'string', default: 'docs/report.png' },
  },
});
const name = await findChromium();
if (name === undefined) throw new Error('there is no Chromium: install it, on Debian as chromium');
const folder = await mkdtemp(join(tmpdir(), 'transship-report-'));
try {
  const file = join(folder, 'report.html');
  await writeFile(file, reportPage(sampleReport()));
  await using browser = await openChromium(name);
  const screen = { width: Number(values.width), scheme: values.dark ? 'dark' : 'light' } as const;
  const { picture } = await browser.render(pathToFileURL(file).href, screen);
  await writeFile(values.to, picture);
} finally {
  await rm(folder, { recursive: true, force: true });
}
