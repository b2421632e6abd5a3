import { InvalidArgumentError, type Command } from 'commander';
import type { Status } from '../service/admin/status.ts';
import type { Run } from '../state/state.ts';
import { describeFailure } from '../util/failure.ts';
import { redacted } from '../util/text.ts';
import { printResult, withCommonFlags, type CommandContext, type CommonFlags } from './context.ts';
import { describeRules } from './rules.ts';
import { PLAIN, type Look } from './look.ts';
import { formatTable } from './table.ts';
import { formatDuration, formatUnchanged, foundFaults, printable } from './text.ts';

interface StatusFlags extends CommonFlags {
  readonly runs?: number;
}

export function addStatus(program: Command, context: CommandContext): void {
  const command = program
    .command('status')
    .summary('show how the deployed system is doing')
    .description(
      'Shows rules with the age of their last good copy or verification, runs, jobs in flight, and dead letters with their reasons. Exits 3 when something is late or dead, or the last run of a rule had a failure; 1 when a part could not be read within ten seconds: the others are shown all the same.',
    )
    .option('--runs <n>', 'how many runs to show (default: 10)', (value) => {
      const number = Number(value);
      if (!Number.isInteger(number) || number < 1 || number > 100)
        throw new InvalidArgumentError('expected a whole number from 1 to 100.');
      return number;
    });
  withCommonFlags(command).action(async (flags: StatusFlags) => {
    await using service = context.connectService();
    const { status } = await import('../service/admin/status.ts');
    const found = await status(service, { signal: context.signal, clock: context.clock, runs: flags.runs });
    printResult(context, flags, found, (look) => describeStatus(found, context.clock.now(), look));
    if (found.unanswered.length > 0) context.exit(1);
    else if (found.faulty) context.exit(3, faultsOf(found));
  });
}

/** What makes the exit code 3. */
function faultsOf({ deadLetters = 0, rules, inFlight }: Status): string {
  return foundFaults([
    [deadLetters, 'dead letter', 'dead letters'],
    [rules.reduce((sum, { faults }) => sum + faults.length, 0), 'fault of a rule', 'faults of rules'],
    [inFlight.filter(({ fault }) => fault !== undefined).length, 'job with a fault', 'jobs with a fault'],
  ]);
}

/** Characters of a dead letter that are looked at: it may have a million. */
const MAX_BODY = 1000;

/** All of it, for people. */
export function describeStatus(found: Status, nowMs: number, look: Look = PLAIN): string {
  const { large, queue, runs, uneventfulPushes, inFlight, failed, dead, deadLetters } = found;
  const isRead = (part: (typeof found.unanswered)[number]['part']): boolean =>
    found.unanswered.every((one) => one.part !== part);
  const ago = (ms: number): string => `${formatDuration(Math.max(0, nowMs - ms))} ago`;
  const sections = [
    ...(found.rules.length > 0 ? [describeRules(found.rules, nowMs, look)] : isRead('rules') ? ['no rules'] : []),
    ...(runs.length > 0
      ? [describeRuns(runs, ago, look)]
      : isRead('runs') && uneventfulPushes === 0
        ? ['no runs']
        : []),
    ...(uneventfulPushes > 0 ? [`runs of pushes that needed nothing: ${uneventfulPushes}`] : []),
    [
      queue === undefined ? 'queue: unknown' : `queue: ${describeCount(queue)}`,
      ...(large === undefined ? [] : [`large jobs: ${describeCount(large)}`]),
      `dead letters: ${deadLetters ?? 'unknown'}`,
    ].join('; '),
    ...found.unanswered.map(({ part, failure }) => `could not read ${part}: ${printable(describeFailure(failure))}`),
  ];
  if (inFlight.length > 0) {
    sections.push(
      inFlight
        .map((job) => {
          const said = [job.fault, job.reason].filter((text) => text !== undefined);
          const why = said.map((text) => `: ${printable(text)}`).join('');
          return `${job.state} since ${ago(job.changedAtMs)}, attempt ${job.attempts}: ${printable(job.title)}${why}`;
        })
        .join('\n'),
    );
  }
  if (failed.length > 0) {
    sections.push(
      failed.map((job) => `failed: ${printable(job.title)}: ${job.code}: ${printable(job.reason ?? '')}`).join('\n'),
    );
  }
  if (dead.length > 0) {
    sections.push(
      [
        ...dead.map(({ id, reason, body, sentAtMs }) => {
          const said = redacted(body.slice(0, MAX_BODY));
          const text = said.length > 120 ? `${said.slice(0, 120)}…` : said;
          return `dead letter ${id}, ${ago(sentAtMs)}: ${printable(reason ?? 'no reason: it was received too often')}: ${printable(text)}`;
        }),
        'put them back with `transship redrive` when their cause is gone, or delete them with `transship redrive --discard ID`',
      ].join('\n'),
    );
  }
  return sections.join('\n\n');
}

function describeCount({ visible, inFlight, delayed }: NonNullable<Status['queue']>): string {
  return `${visible} waiting, ${inFlight} in flight, ${delayed} delayed`;
}

function describeRuns(runs: readonly Run[], ago: (ms: number) => string, look: Look): string {
  return formatTable(
    ['run', 'rule', 'started', 'state', '>done', '>unchanged', '>gone', '>failed', '>left'],
    runs.map((run) => [
      run.id,
      run.rule ?? '-',
      ago(run.startedAtMs),
      run.dead === true
        ? 'dead'
        : run.endedAtMs !== undefined
          ? `ended in ${formatDuration(run.endedAtMs - run.startedAtMs)}`
          : run.plannedAtMs === undefined
            ? 'planning'
            : 'going on',
      String(run.jobs.done),
      formatUnchanged(run),
      String(run.jobs.gone),
      String(run.jobs.failed),
      String(run.jobs.waiting + run.jobs.running),
    ]),
    look,
    { shorten: ['run'], drop: ['gone', 'started'] },
  );
}
