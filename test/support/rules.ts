import type { CopyRule } from '../../worker/rules/rule.ts';

/** A rule that is due every hour, and backs up where its destinations are in S3, without snapshots. */
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
