import type { Clock } from '../util/clock.ts';
import { isRecord } from '../util/record.ts';
import type { Report } from '../util/events.ts';

/** Keeps ECS from stopping this task to scale in or to deploy, for as long as jobs run. */
export interface TaskProtection extends AsyncDisposable {
  /** Called with the number of jobs that run from now on. */
  readonly busy: (jobs: number) => void;
}

export interface ProtectionOptions {
  /** The address of the container agent: `$ECS_AGENT_URI`. */
  readonly agentUri: string;
  readonly clock: Clock;
  readonly report: Report;
}

/** Protection ends by itself after this time, if this process ends without removing it. */
const EXPIRES_MINUTES = 15;
const RENEW_MS = 5 * 60_000;
/** How long after a failure it is tried again. */
const AGAIN_MS = 60_000;
/** How long protection is kept after the last job: the API is made for rare changes. */
const IDLE_MS = 30_000;
const ANSWER_TIMEOUT_MS = 5_000;

/** While no job runs there is nothing to renew. */
const LONG_MS = 24 * 60 * 60_000;

/**
 * Task scale-in protection by the container agent:
 * https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
 *
 * Work never waits for it, and it never stops work: a task without protection that is stopped gives its jobs back all the same. Each reason
 * for which it cannot be had is reported once.
 */
export function protectTask(options: ProtectionOptions): TaskProtection {
  return new AgentProtection(options);
}

type PutOutcome = 'done' | 'failed' | 'pointless';

class AgentProtection implements TaskProtection {
  readonly #url: string;
  readonly #clock: Clock;
  readonly #report: Report;
  readonly #closing = new AbortController();
  /** Ends when it is closed, or when protection turns out to be pointless. */
  readonly #keeping: Promise<void>;
  readonly #reported = new Set<string>();
  /** Ends the current wait, as the number of jobs has changed. */
  #changed = new AbortController();
  #running = 0;
  #idleSinceMs = 0;
  /** Whether protection may be on at ECS. */
  #isOn = false;
  #renewAtMs = 0;

  constructor({ agentUri, clock, report }: ProtectionOptions) {
    this.#url = `${agentUri.replace(/\/$/, '')}/task-protection/v1/state`;
    this.#clock = clock;
    this.#report = report;
    this.#keeping = this.#keep();
  }

  readonly busy = (jobs: number): void => {
    const changes = jobs > 0 !== this.#running > 0;
    this.#running = jobs;
    if (!changes) return;
    this.#idleSinceMs = this.#clock.now();
    this.#changed.abort();
  };

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#keeping;
    // a container that is started again in the same task would find itself protected
    if (this.#isOn) await this.#put(false, []);
    this.#isOn = false;
  }

  async #keep(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      const waitMs = this.#running > 0 ? this.#untilRenewalMs() : this.#untilReleaseMs();
      if (waitMs > 0) await this.#wait(waitMs);
      else if (this.#running === 0) await this.#release();
      else if ((await this.#renew()) === 'pointless') return;
    }
  }

  #untilRenewalMs(): number {
    return this.#renewAtMs - this.#clock.now();
  }

  #untilReleaseMs(): number {
    return this.#isOn ? this.#idleSinceMs + IDLE_MS - this.#clock.now() : LONG_MS;
  }

  async #renew(): Promise<PutOutcome> {
    const nowMs = this.#clock.now();
    this.#isOn = true;
    const outcome = await this.#put(true, [this.#closing.signal]);
    this.#renewAtMs = nowMs + (outcome === 'done' ? RENEW_MS : AGAIN_MS);
    this.#isOn = outcome !== 'pointless';
    return outcome;
  }

  async #release(): Promise<void> {
    this.#isOn = false;
    this.#renewAtMs = 0;
    await this.#put(false, [this.#closing.signal]);
  }

  async #wait(ms: number): Promise<void> {
    this.#changed = new AbortController();
    const signal = AbortSignal.any([this.#changed.signal, this.#closing.signal]);
    await this.#clock.sleep(ms, { signal }).catch(() => undefined);
  }

  async #put(protect: boolean, signals: readonly AbortSignal[]): Promise<PutOutcome> {
    const problem = await ask(
      this.#url,
      protect,
      AbortSignal.any([...signals, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]),
    );
    if (problem === undefined || this.#closing.signal.aborted) return 'done';
    if (!this.#reported.has(problem.reason)) this.#report({ type: 'warning', message: messageOf(problem) });
    this.#reported.add(problem.reason);
    return problem.reason === 'TASK_NOT_VALID' ? 'pointless' : 'failed';
  }
}

interface Problem {
  /** A word of ECS's, where it answered. */
  readonly reason: string;
  readonly detail: string;
}

async function ask(url: string, protect: boolean, signal: AbortSignal): Promise<Problem | undefined> {
  let status: number;
  let body: unknown;
  try {
    const answer = await fetch(url, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        ProtectionEnabled: protect,
        ...(protect ? { ExpiresInMinutes: EXPIRES_MINUTES } : {}),
      }),
      signal,
    });
    status = answer.status;
    body = await answer.json();
  } catch (error) {
    return { reason: 'no answer', detail: error instanceof Error ? error.message : 'it did not answer' };
  }
  const { failure, error, protection } = isRecord(body) ? body : {};
  if (isRecord(failure)) return { reason: wordOf(failure['Reason']), detail: wordOf(failure['Detail']) };
  if (isRecord(error)) return { reason: wordOf(error['Code']), detail: wordOf(error['Message']) };
  if (status === 200 && isRecord(protection)) return undefined;
  return { reason: `HTTP ${status}`, detail: 'the answer does not mention protection' };
}

function wordOf(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, 200) : '';
}

/** https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html */
function messageOf({ reason, detail }: Problem): string {
  const what = 'protect this task from scale-in';
  const rest = 'jobs go on, and are given back when it is stopped';
  if (reason === 'TASK_NOT_VALID') return `${what}: it belongs to no service, so nothing scales it in`;
  if (reason === 'DEPLOYMENT_BLOCKED')
    return `${what}: a deployment waits for protected tasks to end, and no more are protected; ${rest}`;
  const denied = /AccessDenied/.test(reason) ? '; the task role needs ecs:UpdateTaskProtection' : '';
  return `${what}: ${reason}${detail === '' ? '' : `: ${detail}`}${denied}; ${rest}`;
}
