import { expect, test } from 'vitest';
import { terminalPicture } from '../../picture/terminal-picture.ts';

const ESCAPE = String.fromCharCode(27);

/** The pieces of text, each with its attributes. */
function spansOf(svg: string): readonly string[] {
  return [
    ...svg.matchAll(/<tspan x="([\d.]+)" textLength="[\d.]+" lengthAdjust="spacingAndGlyphs"(.*?)>(.*?)<\//g),
  ].map(([, x = '', look = '', text = '']) => `${x}${look} ${text}`);
}

test('puts each piece at its column, with its colour and weight', () => {
  const line = `plain ${ESCAPE}[32mgreen${ESCAPE}[39m ${ESCAPE}[1;31mbold red${ESCAPE}[0m ${ESCAPE}[2mdim`;
  expect(spansOf(terminalPicture([line], 'a'))).toEqual([
    '16.0 plain',
    '66.4 fill="#7ee787" green',
    '116.8 fill="#ff7b72" font-weight="bold" bold red',
    '192.4 opacity="0.65" dim',
  ]);
});

test('keeps the columns of a table, although SVG collapses spaces', () => {
  expect(spansOf(terminalPicture(['  one a   2'], 'a'))).toEqual(['32.8 one a', '100.0 2']);
});

test('escapes what XML reserves, and leaves out other sequences and empty lines', () => {
  const svg = terminalPicture(['', `${ESCAPE}[2K<a & "b">`], 'x "y"');
  expect(spansOf(svg)).toEqual(['16.0 &lt;a &amp; &quot;b&quot;&gt;']);
  expect(svg).toContain('aria-label="x &quot;y&quot;"');
  expect(svg.match(/<text /g)).toHaveLength(1);
});

test('is as wide as its longest line and as high as its lines', () => {
  expect(terminalPicture(['x'.repeat(100), 'y'], 'a')).toContain('viewBox="0 0 872 80"');
});
