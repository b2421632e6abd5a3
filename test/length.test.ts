// A function fits on a screen, and a file is read in one sitting: longer ones do several things.
import { globSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import {
  getTokenPosOfNode,
  isArrowFunction,
  isConstructorDeclaration,
  isFunctionDeclaration,
  isFunctionExpression,
  isMethodDeclaration,
  type Node,
  type SourceFile,
} from 'typescript/unstable/ast';
import { API } from 'typescript/unstable/sync';

const MAX_FILE_LINES = 450;
const MAX_FUNCTION_LINES = 60;

const FILES = globSync('{worker,local}/**/*.ts', { exclude: ['**/node_modules/**'] }).toSorted();

const api = new API();
afterAll(() => api.close());
const [project] = api.updateSnapshot({ openProjects: [resolve('tsconfig.json')] }).getProjects();

function linesOf(text: string): number {
  return text.split('\n').length;
}

/** `line name` of each function that is too long. */
function longFunctions(source: SourceFile): readonly string[] {
  const found: string[] = [];
  const visit = (node: Node): undefined => {
    if (
      isFunctionDeclaration(node) ||
      isFunctionExpression(node) ||
      isArrowFunction(node) ||
      isMethodDeclaration(node) ||
      isConstructorDeclaration(node)
    ) {
      const start = getTokenPosOfNode(node, source);
      const lines = linesOf(source.text.slice(start, node.end));
      if (lines > MAX_FUNCTION_LINES) found.push(`line ${linesOf(source.text.slice(0, start))}: ${lines} lines`);
    }
    node.forEachChild(visit);
    return undefined;
  };
  visit(source);
  return found;
}

test.each(FILES)(
  `%s has at most ${MAX_FILE_LINES} lines, and no function of more than ${MAX_FUNCTION_LINES}`,
  (file) => {
    expect(linesOf(readFileSync(file, 'utf8')) - 1).toBeLessThanOrEqual(MAX_FILE_LINES);
    // a test file is a list of tests
    if (file.endsWith('.test.ts')) return;
    const source = project?.program.getSourceFile(resolve(file));
    expect(source === undefined ? ['not read'] : longFunctions(source)).toEqual([]);
  },
);
