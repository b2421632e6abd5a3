// Restores a registry that mounts blobs. test/soak/mounting-registry.test.ts does the same with 40 repositories.
import { afterAll } from 'vitest';
import { openLab } from '../support/lab.ts';
import { mountingSuite } from '../support/whole-registry-suite.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
mountingSuite(lab, { repositories: 5, imagesEach: 2 });
