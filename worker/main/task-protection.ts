import type { Clock } from '../util/clock.ts';
import { isRecord } from '../util/record.ts';
import type { Report } from '../util/events.ts';

/** Keeps ECS from stopping this task to scale in or to deploy, for as long as jobs run. */
export interface TaskProtection extends AsyncDisposable {
  /** So many run from now on. */
  readonly busy: (jobs: number) => void;
}

export interface ProtectionOptions {
  /** Of the container agent: `$ECS_AGENT_URI`. */
  readonly agentUri: string;
  readonly clock: Clock;
  readonly report: Report;
}

/** Protection ends by itself after this time, should this process be gone without taking it back. */
const EXPIRES_MINUTES = 15;
const RENEW_MS = 5 * 60_000;
/** After a failure. */
const AGAIN_MS = 60_000;
/** Between two jobs it is kept: the API behind it is one for rare changes. */
const IDLE_MS = 30_000;
const ANSWER_TIMEOUT_MS = 5_000;

/**
 * Task scale-in protection by the container agent:
 * https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
 *
 * Nobody waits for it, and it never stops work: where it cannot be had, a task that is stopped gives its jobs back all the same. A reason for
 * which it cannot be had is reported once.
 */
export function protectTask(options: ProtectionOptions): TaskProtection {
  const url = `${options.agentUri.replace(/\/$/, '')}/task-protection/v1/state`;
  const closing = new AbortController();
  const told = new Set<string>();
  let waiting = new AbortController();
  let running = 0;
  let idleSinceMs = 0;
  /** Whether ECS may believe that we are to be protected. */
  let on = false;
  let renewAtMs = 0;

  const wait = async (ms: number): Promise<void> => {
    waiting = new AbortController();
    const signal = AbortSignal.any([waiting.signal, closing.signal]);
    await options.clock.sleep(ms, { signal }).catch(() => undefined);
  };

  const put = async (protect: boolean, signals: readonly AbortSignal[]): Promise<'done' | 'failed' | 'pointless'> => {
    const problem = await ask(url, protect, AbortSignal.any([...signals, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]));
    if (problem === undefined || closing.signal.aborted) return 'done';
    if (!told.has(problem.reason)) options.report({ type: 'warning', message: messageOf(problem) });
    told.add(problem.reason);
    return problem.reason === 'TASK_NOT_VALID' ? 'pointless' : 'failed';
  };

  const keep = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      const nowMs = options.clock.now();
      if (running > 0) {
        if (nowMs < renewAtMs) await wait(renewAtMs - nowMs);
        else {
          on = true;
          const outcome = await put(true, [closing.signal]);
          renewAtMs = nowMs + (outcome === 'done' ? RENEW_MS : AGAIN_MS);
          on = outcome !== 'pointless';
          if (!on) return;
        }
      } else if (!on) await wait(LONG_MS);
      else if (nowMs < idleSinceMs + IDLE_MS) await wait(idleSinceMs + IDLE_MS - nowMs);
      else {
        on = false;
        renewAtMs = 0;
        await put(false, [closing.signal]);
      }
    }
  };
  const kept = keep();

  return {
    busy: (jobs) => {
      const changes = jobs > 0 !== running > 0;
      running = jobs;
      if (!changes) return;
      idleSinceMs = options.clock.now();
      waiting.abort();
    },
    [Symbol.asyncDispose]: async () => {
      closing.abort();
      await kept;
      // a container that is started again in the same task would find itself protected
      if (on) await put(false, []);
      on = false;
    },
  };
}

/** Until something begins. */
const LONG_MS = 24 * 60 * 60_000;

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
  return { reason: `HTTP ${status}`, detail: 'the answer says nothing of protection' };
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
