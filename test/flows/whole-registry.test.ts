// A registry is lost, and restored in another account and Region. test/soak/whole-registry.test.ts does the same with 400 images.
import { afterAll } from 'vitest';
import { openLab } from '../support/lab.ts';
import { wholeRegistrySuite } from '../support/whole-registry-suite.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
wholeRegistrySuite(lab, { repositories: 5, imagesEach: 8, kills: 4 });
