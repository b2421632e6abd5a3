// docs/failures.md has a chapter for every code, with the behaviour of the program.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { EXIT_CODE } from '../../../worker/main/program.ts';
import { CODES, Failure } from '../../../worker/util/failure.ts';

const document = readFileSync('docs/failures.md', 'utf8');

describe('docs/failures.md', () => {
  test('has a chapter for every code and for nothing else', () => {
    expect([...document.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading)).toEqual([...CODES]);
  });

  test.each(CODES)('has the true retries and exit code of %s', (code) => {
    const retried = new Failure(code, 'x').retryable ? 'yes' : 'no';
    expect(document).toContain(`| [${code}](#${code.toLowerCase()}) | ${retried} | ${EXIT_CODE[code]} |`);
  });

  test.each(CODES)('names the next step for %s', (code) => {
    const [, chapter = ''] = document.split(`\n## ${code}\n`);
    const [text = ''] = chapter.split('\n## ');
    expect(text).toMatch(/^- |Run the same command again|Please report it/m);
  });
});
