// A rule that prunes a store, by a Cleaner, over the embedded S3 and ECR.
import { afterAll, expect, test } from 'vitest';
import { backupToStore } from '../../worker/images/backup-store.ts';
import { formatRule, parseConfig } from '../../worker/rules/config.ts';
import { runCleaner } from '../../worker/service/cleaner/pass.ts';
import { openSnapshots } from '../../worker/store/snapshots.ts';
import { Failure } from '../../worker/util/failure.ts';
import { workClock } from '../support/clock.ts';
import { makeImage } from '../support/images.ts';
import { failureOf, openLab } from '../support/lab.ts';
import { poolOf, testService } from '../support/test-service.ts';

const lab = await openLab();
afterAll(async () => lab[Symbol.asyncDispose]());
const { bucket, ecr } = lab.stack;

test('deletes snapshots that the rule does not keep, and nothing in a dry run', async () => {
  const place = `store:s3://${bucket}/pruned/`;
  const { backends, options } = lab.session();
  const ids: string[] = [];
  for (const seed of [1, 2, 3]) {
    const image = await makeImage({ seed, tag: 'v1', platforms: ['linux/amd64'], layers: [200] });
    await lab.push(image, ecr, 'pruned/app');
    const request = { from: `${ecr.registryHost}/pruned/*`, to: place, tool: 'test' };
    // a clock that the renewals of the backup's lock do not advance: their number depends on the load of the machine
    const clock = workClock({ startMs: Date.UTC(2026, 0, 1, 5, seed) });
    const { snapshot } = await backupToStore(request, backends, { ...options, clock });
    ids.push(snapshot?.id ?? '');
  }
  const listed = async (): Promise<readonly string[]> =>
    (await openSnapshots({ store: backends.bucket(bucket), prefix: 'pruned/' }).list()).map(({ id }) => id);
  const t = testService();
  const text = (dryRun: boolean): string =>
    `version: 1\nrules:\n  - name: old\n    prune: { at: '${place}', keepLast: 1, dryRun: ${dryRun} }\n    schedule: '0 * * * *'\n`;
  const clean = async (dryRun: boolean, revision: number): Promise<void> => {
    const [rule] = parseConfig(text(dryRun)).rules;
    if (rule === undefined) throw new Failure('BUG', 'there is no rule');
    await t.state.rules.put({ name: rule.name, document: formatRule(rule) }, revision);
    await t.clock.advance(3_600_000);
    const events: string[] = [];
    const reportOf = () => (event: { readonly type: string }) => void events.push(event.type);
    const result = await runCleaner(t.state, poolOf(backends), { clock: t.clock, reportOf });
    expect(result).toMatchObject({ begun: 1, failed: 0, open: 0 });
    expect(events).toContain('place-pruned');
  };
  await clean(true, 0);
  expect(await listed()).toEqual(ids);
  await clean(false, 1);
  expect(await listed()).toEqual(ids.slice(-1));
});

test('a rule for a store accepts only choices of snapshots', async () => {
  const prune = (words: string): string => `version: 1\nrules: [{ name: old, prune: ${words} }]\n`;
  const refused = async (words: string): Promise<string> =>
    (await failureOf((async () => parseConfig(prune(words)))(), 'INVALID')).message;
  expect(await refused("{ at: 'store:s3://example-b/', deleteTags: ['x'] }")).toContain('which choose snapshots');
  expect(await refused("{ at: ['store:s3://example-b/', 's3://example-b/'], keepLast: 1 }")).toContain(
    'a rule for each',
  );
  expect(await refused("{ at: 'store:./folder', keepLast: 1 }")).toContain('store:s3://bucket/prefix/');
});
