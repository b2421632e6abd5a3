// As test/flows/mounting-registry.test.ts, with 40 repositories.
import { afterAll } from 'vitest';
import { openLab } from '../support/lab.ts';
import { mountingSuite } from '../support/whole-registry-suite.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
mountingSuite(lab, { repositories: 40, imagesEach: 2 });
