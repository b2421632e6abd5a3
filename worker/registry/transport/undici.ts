// The parts of undici that a registry's connections need. Its main module loads some eighty files more: fetch, WebSocket, caches, mocks.
import connect from 'undici/lib/api/api-connect.js';
import Dispatcher from 'undici/lib/dispatcher/dispatcher.js';

export { default as Agent } from 'undici/lib/dispatcher/agent.js';
export { default as Pool } from 'undici/lib/dispatcher/pool.js';
export { default as ProxyAgent } from 'undici/lib/dispatcher/proxy-agent.js';

// the main module of undici adds every method of its API to the prototype; this one requests a tunnel from a proxy
Object.assign(Dispatcher.prototype, { connect });
