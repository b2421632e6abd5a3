// Every relative link in a document leads to a file, and to a heading in it if the link names one.
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';

const pages = ['*.md', 'docs/**/*.md', 'examples/**/*.md', 'infra/**/*.md', 'local/*.md']
  .flatMap((pattern) => globSync(pattern))
  .sort();

test.each(pages)('links of %s lead somewhere', (page) => {
  const broken = linksOf(readFileSync(page, 'utf8')).filter((link) => !leadsSomewhere(page, link));
  expect(broken).toEqual([]);
});

test('finds links, and reports those that lead nowhere', () => {
  const text =
    'a [b](CHANGELOG.md) ![c](docs/none.md "title"), [d](https://example.com/e.md)\n```\n[no](link.md)\n```\n[f]: docs/state.md#none';
  const links = linksOf(text);
  expect(links).toEqual(['CHANGELOG.md', 'docs/none.md', 'docs/state.md#none']);
  expect(links.filter((link) => leadsSomewhere('README.md', link))).toEqual(['CHANGELOG.md']);
});

/** Without links to other sites. */
function linksOf(markdown: string): readonly string[] {
  const text = markdown.replace(/^```.*?^```$/gms, '').replace(/`[^`\n]*`/g, '');
  return [...text.matchAll(/\]\(([^)\s]+)[^)]*\)|^\[[^\]]+\]: (\S+)/gm)]
    .map(([, inline, reference]) => inline ?? reference ?? '')
    .filter((link) => !/^[a-z]+:/.test(link));
}

function leadsSomewhere(page: string, link: string): boolean {
  const [path = '', heading] = link.split('#');
  const file = path === '' ? page : join(dirname(page), path);
  if (!existsSync(file)) return false;
  return heading === undefined || !file.endsWith('.md') || headingsOf(readFileSync(file, 'utf8')).includes(heading);
}

/** As GitHub builds anchors from them. */
function headingsOf(markdown: string): readonly string[] {
  return [...markdown.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
