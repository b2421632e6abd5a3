import { objectStoreSuite } from '../../suites/objects.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';

objectStoreSuite('memory', async () => {
  const store = new MemoryObjects();
  return {
    store,
    reopen: () => store,
    partSize: 1000,
    keepsMetadata: true,
    [Symbol.asyncDispose]: async () => undefined,
  };
});
