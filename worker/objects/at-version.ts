import type { ObjectStore } from './objects.ts';

/** `store` for one object, of which every read is of `version`: the current one may be another by now. */
export function atVersion(store: ObjectStore, version: string): ObjectStore {
  return {
    ...(store.rangesAtOnce === undefined ? {} : { rangesAtOnce: store.rangesAtOnce }),
    describe: (key) => `${store.describe(key)} (version ${version})`,
    stat: async (key, options) => store.stat(key, { ...options, version }),
    read: async (key, options) => store.read(key, { ...options, version }),
    list: (prefix, options) => store.list(prefix, options),
    write: async (key, body, options) => store.write(key, body, options),
    stream: async (key, body, options) => store.stream(key, body, options),
    upload: async (key, size, options) => store.upload(key, size, options),
  };
}
