import { parseConfig } from '../../worker/rules/config.ts';
import type { CopyRule, Rule } from '../../worker/rules/rule.ts';

/** An hourly rule. `part` is its work in the rules file, as `verify: { at: host/app }`. */
export function hourlyRule(name: string, part: string): Rule {
  const [only] = parseConfig(`version: 1\nrules:\n  - name: ${name}\n    schedule: '0 * * * *'\n    ${part}\n`).rules;
  if (only === undefined) throw new Error('the file has no rule');
  return only;
}

/** An hourly rule that backs up where its destinations are in S3, without snapshots. */
export function rule(options: Partial<CopyRule> & Pick<CopyRule, 'from' | 'to'>): CopyRule {
  const isBackup = options.to.every((to) => to.startsWith('s3://'));
  return {
    kind: isBackup ? 'backup' : 'mirror',
    ...(isBackup ? { snapshots: false } : {}),
    name: 'rule',
    tags: { include: [], exclude: [], untagged: false },
    platforms: [],
    referrers: true,
    schedule: { cron: '0 * * * *', timeZone: 'UTC' },
    onPush: false,
    ...options,
  };
}
