// As test/flows/whole-registry.test.ts, with 40 repositories and 400 images.
import { afterAll } from 'vitest';
import { openLab } from '../support/lab.ts';
import { wholeRegistrySuite } from '../support/whole-registry-suite.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
wholeRegistrySuite(lab, { repositories: 40, imagesEach: 10, kills: 12 });
