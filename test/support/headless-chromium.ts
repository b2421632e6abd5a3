// Chromium by its DevTools protocol: what a test checks of a page without scripts.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

/** How a page is shown. */
interface Screen {
  readonly width: number;
  readonly scheme: 'light' | 'dark';
}

/** What a browser made of a page. */
interface RenderedPage {
  /** The whole page as PNG. */
  readonly picture: Buffer;
  /** The width of its content, in CSS pixels. */
  readonly width: number;
  readonly height: number;
  readonly dom: string;
  readonly background: string;
  /** The addresses that it requested, without the page itself. */
  readonly requests: readonly string[];
  /** What the browser wrote to the console of the page, such as violations of its policy. */
  readonly console: readonly string[];
}

/** The name of the Chromium on this machine. */
export async function findChromium(): Promise<string | undefined> {
  for (const name of ['chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome']) {
    const works = await promisify(execFile)(name, ['--version']).then(
      () => true,
      () => false,
    );
    if (works) return name;
  }
  return undefined;
}

export interface Chromium extends AsyncDisposable {
  render(url: string, screen: Screen): Promise<RenderedPage>;
}

export async function openChromium(name: string): Promise<Chromium> {
  const profile = await mkdtemp(join(tmpdir(), 'transship-chromium-'));
  // without these, a Chromium of Debian first asks its maker for updates, and hangs without a network
  const quiet = ['--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update'];
  const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-sync', '--hide-scrollbars', ...quiet];
  const child = spawn(name, [...flags, `--user-data-dir=${profile}`, '--remote-debugging-port=0', 'about:blank'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(child, 'exit');
  const close = async (): Promise<void> => {
    child.kill();
    await exited;
    await rm(profile, { recursive: true, force: true });
  };
  try {
    const socket = new WebSocket(await debuggerUrl(child.stderr));
    await once(socket, 'open');
    const browser = new Session(socket);
    return { render: (url, screen) => browser.render(url, screen), [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function debuggerUrl(stderr: NodeJS.ReadableStream): Promise<string> {
  const said: string[] = [];
  for await (const line of createInterface(stderr)) {
    said.push(line);
    const url = /DevTools listening on (ws:\S+)/.exec(line)?.[1];
    if (url === undefined) continue;
    // the rest of its output is discarded
    stderr.resume();
    return url;
  }
  throw new Error(`Chromium ended: ${said.join('\n')}`);
}

type Message = { id?: number; method?: string; params?: Record<string, unknown>; sessionId?: string } & {
  result?: Record<string, unknown>;
  error?: { message: string };
};

/** https://chromedevtools.github.io/devtools-protocol/ */
class Session {
  readonly #socket: WebSocket;
  readonly #answers = new Map<number, PromiseWithResolvers<Record<string, unknown>>>();
  readonly #listeners = new Map<string, (method: string, params: Record<string, unknown>) => void>();
  #sent = 0;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => {
      const { id = 0, method, params = {}, sessionId = '', result = {}, error } = JSON.parse(String(data)) as Message;
      if (method !== undefined) this.#listeners.get(sessionId)?.(method, params);
      else if (error === undefined) this.#answers.get(id)?.resolve(result);
      else this.#answers.get(id)?.reject(new Error(error.message));
      if (method === undefined) this.#answers.delete(id);
    });
    socket.addEventListener('close', () => {
      for (const answer of this.#answers.values()) answer.reject(new Error('Chromium ended'));
    });
  }

  async render(url: string, { width, scheme }: Screen): Promise<RenderedPage> {
    const { targetId } = await this.#call('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.#call('Target.attachToTarget', { targetId, flatten: true });
    const call = (method: string, params = {}): Promise<Record<string, unknown>> =>
      this.#call(method, params, String(sessionId));
    const loaded = Promise.withResolvers<void>();
    const requests: string[] = [];
    const written: string[] = [];
    this.#listeners.set(String(sessionId), (method, params) => {
      if (method === 'Page.loadEventFired') loaded.resolve();
      if (method === 'Network.requestWillBeSent') requests.push((params['request'] as { url: string }).url);
      if (method === 'Log.entryAdded') written.push((params['entry'] as { text: string }).text);
    });
    for (const domain of ['Page', 'Network', 'Log']) await call(`${domain}.enable`);
    await call('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
    await call('Emulation.setDeviceMetricsOverride', { width, height: 844, deviceScaleFactor: 1, mobile: width < 600 });
    await call('Page.navigate', { url });
    await loaded.promise;
    const evaluate = async (expression: string): Promise<unknown> => {
      const { result } = await call('Runtime.evaluate', { expression, returnByValue: true });
      return (result as { value: unknown }).value;
    };
    const shot = await call('Page.captureScreenshot', { format: 'png', captureBeyondViewport: true });
    const page = {
      picture: Buffer.from(String(shot['data']), 'base64'),
      width: Number(await evaluate('document.documentElement.scrollWidth')),
      height: Number(await evaluate('document.documentElement.scrollHeight')),
      dom: String(await evaluate('document.documentElement.outerHTML')),
      background: String(await evaluate('getComputedStyle(document.body).backgroundColor')),
      requests: requests.filter((one) => one !== url),
      console: written,
    };
    await this.#call('Target.closeTarget', { targetId });
    this.#listeners.delete(String(sessionId));
    return page;
  }

  #call(method: string, params: object, sessionId?: string): Promise<Record<string, unknown>> {
    const id = ++this.#sent;
    const answer = Promise.withResolvers<Record<string, unknown>>();
    this.#answers.set(id, answer);
    this.#socket.send(JSON.stringify({ id, method, params, ...(sessionId === undefined ? {} : { sessionId }) }));
    return answer.promise;
  }
}
