// A registry is lost, and restored in another account and Region. test/soak/whole-registry.test.ts does the same with 400 images.
import { afterAll, vi } from 'vitest';
import { openLab } from '../support/lab.ts';
import { wholeRegistrySuite } from '../support/whole-registry-suite.ts';

// half a minute is little for them on a busy machine
vi.setConfig({ testTimeout: 120_000 });
const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
wholeRegistrySuite(lab, { repositories: 5, imagesEach: 8, kills: 4 });
