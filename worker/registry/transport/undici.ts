// The parts of undici that a registry's connections need. Its main module loads some eighty files more: fetch, WebSocket, caches, mocks.
import connect from 'undici/lib/api/api-connect.js';
import Dispatcher from 'undici/lib/dispatcher/dispatcher.js';

export { default as Agent } from 'undici/lib/dispatcher/agent.js';
export { default as Pool } from 'undici/lib/dispatcher/pool.js';
export { default as ProxyAgent } from 'undici/lib/dispatcher/proxy-agent.js';

// what the main module does with every method of its API: by this one a proxy is asked for a tunnel
Object.assign(Dispatcher.prototype, { connect });
