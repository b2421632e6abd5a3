import { objectStoreSuite } from '../../contracts/objects.ts';
import { MemoryObjects } from '../../support/memory-objects.ts';

// the store of other tests: they rely on what the real stores promise
objectStoreSuite('memory', async () => {
  const store = new MemoryObjects();
  return {
    store,
    reopen: () => store,
    remove: async (key) => store.remove(key),
    partSize: 1000,
    keepsMetadata: true,
    [Symbol.asyncDispose]: async () => undefined,
  };
});
