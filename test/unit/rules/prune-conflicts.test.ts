import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../worker/rules/config.ts';
import { warnings } from '../../../worker/rules/prune-conflicts.ts';

const ECR = '111111111111.dkr.ecr.us-east-1.amazonaws.com';
const NOW_MS = Date.UTC(2026, 11, 1);

const config = (text: string) => parseConfig(`version: 1\nrules:${text}`, { nowMs: NOW_MS });
const warned = (text: string): readonly string[] => warnings(config(text).rules, NOW_MS);

const BACKUP = (more = ''): string => `
  - name: nightly
    backup: { from: "${ECR}/product/*", to: "s3://backups/" }
    schedule: "${more === '' ? '30 5 * * *' : more}"`;
const PRUNE = (rule: string, name = 'clean'): string => `
  - name: ${name}
    prune: { ${rule} }`;

describe('rules that prune beside others', () => {
  test('warn where images without a backup may be deleted, unless one is required', () => {
    expect(warned(BACKUP() + PRUNE(`at: "${ECR}/*", keepLast: 5`))).toEqual([
      `rule "clean" deletes images of ${ECR}/product/* that rule "nightly" backs up, also those that have no backup yet: add "requireBackup" with the place of the archives`,
    ]);
    expect(warned(BACKUP() + PRUNE(`at: "${ECR}/*", keepLast: 5, requireBackup: "s3://backups/"`))).toEqual([]);
    expect(warned(BACKUP() + PRUNE(`at: "${ECR}/testing/*", keepLast: 5`))).toEqual([]);
  });

  test('advise no requireBackup where the backups are in a store, which it does not look into', () => {
    const intoStore = BACKUP().replace('s3://backups/', 'store:s3://backups/store/');
    const both = BACKUP().replace('"s3://backups/"', '["store:s3://backups/store/", "s3://backups/archives/"]');
    const pruning = PRUNE(`at: "${ECR}/*", keepLast: 5`);
    expect(warned(intoStore + pruning)).toEqual([
      expect.stringContaining('have no backup yet: "requireBackup" does not look into stores: set "keepDays"'),
    ]);
    expect(warned(both + pruning)).toEqual([
      expect.stringContaining('add "requireBackup" with the place of the archives'),
    ]);
  });

  test('warn of content that is written again, of the same hour, and of snapshots', () => {
    const archives = PRUNE('at: "s3://backups/", keepLast: 5');
    expect(warned(BACKUP() + archives)).toEqual([
      expect.stringContaining('the newest good backup of each image stays'),
    ]);
    expect(warned(BACKUP('45 2 * * *') + archives)).toEqual([
      expect.anything(),
      expect.stringContaining('run at s3://backups/us-east-1/product/x/ in the same hour (02:00 UTC)'),
    ]);
    // a rule that runs every hour cannot be moved
    expect(warned(BACKUP('0 * * * *') + archives)).toHaveLength(1);
    const others = `
  - name: hub
    mirror: { from: docker.io/library/alpine, to: "${ECR}/hub/{repository}" }
    schedule: "@daily"
  - name: files
    publish: { from: "s3://documents/", to: "${ECR}/hub/files" }
    schedule: "@daily"`;
    expect(warned(others + PRUNE(`at: "${ECR}/hub/*", keepLast: 5`))).toEqual([
      expect.stringContaining('what that rule still selects is copied again'),
      expect.stringContaining('objects stay as long as a snapshot that names them'),
    ]);
  });

  test.each([
    ['at: "s3://backups/a/", keepLast: 5', 'at: "s3://backups/", keepLast: 6', 's3://backups/a/'],
    [`at: "${ECR}/a/b", keepLast: 5`, `at: "${ECR}/a/*", keepLast: 6`, `${ECR}/a/b`],
    [`at: "${ECR}/a", keepLast: 5`, `at: "${ECR}", keepLast: 5, requireBackup: "s3://backups/"`, `${ECR}/a`],
    [`at: "${ECR}/team/*", keepLast: 5`, `at: "${ECR}/*/app", keepLast: 6`, `${ECR}/*/app`],
  ])('are refused where two prune one place by different policies: %s, %s', (one, other, place) => {
    expect(() => config(PRUNE(one) + PRUNE(other, 'again'))).toThrow(
      `it prunes "${place}" as rule "clean" does, by other policies`,
    );
  });

  test('may prune places without a common repository', () => {
    const one = PRUNE(`at: "${ECR}/team/*-app", keepLast: 5`);
    expect(config(one + PRUNE(`at: "${ECR}/*/web", keepLast: 6`, 'again')).rules).toHaveLength(2);
  });

  test('may prune one place by the same policy at two times', () => {
    const one = `at: "${ECR}/a/*", keepLast: 5`;
    expect(config(PRUNE(one) + PRUNE(one, 'again')).rules).toHaveLength(2);
  });
});
