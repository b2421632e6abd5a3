import type { Command } from 'commander';
import type { RuleStatus } from '../service/admin/status.ts';
import type { StoredRule } from '../state/state.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { printDocument, printResult, withCommonFlags, type CommandContext, type CommonFlags } from './context.ts';
import { PLAIN, type Look } from './look.ts';
import { formatTable } from './table.ts';
import { counted, formatDuration, printable } from './text.ts';

export function addRules(program: Command, context: CommandContext): void {
  const rules = program.command('rules').summary('list, show and delete the rules of the deployed system');

  withCommonFlags(
    rules
      .command('list')
      .summary('every rule with its next scheduled time and the age of its last good copy or verification'),
  ).action(async (flags: CommonFlags) => {
    await using service = context.connectService();
    // the code that reads rules takes a while to load: only commands that need it wait for it
    const { statusOfRules } = await import('../service/admin/status.ts');
    const found = await statusOfRules(service.state, { signal: context.signal, clock: context.clock });
    printResult(context, flags, found, (look) =>
      found.length === 0
        ? 'there are no rules: transship apply -f FILE'
        : describeRules(found, context.clock.now(), look),
    );
    const faults = found.reduce((sum, rule) => sum + rule.faults.length, 0);
    if (faults > 0) context.exit(3, counted(faults, 'fault of a rule', 'faults of rules'));
  });

  withCommonFlags(rules.command('show').summary('one rule as it is stored').argument('<name>')).action(
    async (name: string, flags: CommonFlags) => {
      await using service = context.connectService();
      const { document, appliedAtMs, revision } = find(
        name,
        await service.state.rules.list({ signal: context.signal }),
      );
      const rule: unknown = JSON.parse(document);
      const appliedAt = new Date(appliedAtMs).toISOString();
      printDocument(context, flags, { name, revision, appliedAt, rule }, () =>
        [`${name}, revision ${revision}, applied ${appliedAt}`, JSON.stringify(rule, undefined, 2)].join('\n'),
      );
    },
  );

  withCommonFlags(
    rules
      .command('delete')
      .summary('delete one rule; images, archives and objects that it wrote stay')
      .argument('<name>'),
  ).action(async (name: string, flags: CommonFlags) => {
    await using service = context.connectService();
    const options = { signal: context.signal };
    const { revision } = find(name, await service.state.rules.list(options));
    await service.state.rules.remove(name, revision, options);
    printResult(
      context,
      flags,
      { deleted: name },
      () => `deleted the rule ${name}; images, archives and objects that it wrote stay`,
    );
  });
}

function find(name: string, rules: readonly StoredRule[]): StoredRule {
  const found = rules.find((rule) => rule.name === name);
  if (found !== undefined) return found;
  const names = rules.map((rule) => rule.name).join(', ');
  throw new Failure('NOT_FOUND', `there is no rule ${quote(name)}${names === '' ? '' : `, but ${names}`}`);
}

/** What the last good run did, and when it began. */
function describeAge({ kind, drills, ageSeconds }: RuleStatus): string {
  if (ageSeconds === undefined) return 'never';
  const ago = `${formatDuration(ageSeconds * 1000)} ago`;
  return kind === 'verify' ? `${drills === true ? 'restored' : 'verified'} ${ago}` : ago;
}

/** A table of rules, and below it what is wrong with them. */
export function describeRules(rules: readonly RuleStatus[], nowMs: number, look: Look = PLAIN): string {
  return [
    formatTable(
      ['rule', 'kind', 'scheduled time', '>last good run', 'now'],
      rules.map((rule) => [
        rule.name,
        rule.kind ?? 'unreadable',
        rule.expired
          ? 'expired'
          : rule.nextScheduledAtMs === undefined
            ? '-'
            : `in ${formatDuration(rule.nextScheduledAtMs - nowMs)}`,
        describeAge(rule),
        rule.current === undefined ? '' : `run ${rule.current.id}`,
      ]),
      look,
      { shorten: ['rule', 'now'], drop: ['kind'] },
    ),
    ...rules.flatMap((rule) => rule.faults.map((fault) => `fault: ${rule.name}: ${printable(fault)}`)),
  ].join('\n');
}
