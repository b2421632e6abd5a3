// The parts of undici that a registry's connections need. Its main module loads some eighty files more: fetch, WebSocket, caches, mocks.
export { default as Agent } from 'undici/lib/dispatcher/agent.js';
export { default as Pool } from 'undici/lib/dispatcher/pool.js';
export { default as ProxyAgent } from 'undici/lib/dispatcher/proxy-agent.js';
