import { describe, expect, test } from 'vitest';
import { digestOf } from '../../../worker/oci/digest.ts';
import { formatRule } from '../../../worker/rules/config.ts';
import { destinationKey } from '../../../worker/rules/destinations.ts';
import { DestinationOwners } from '../../../worker/service/destination-owner.ts';
import type { StoredRule, SyncRecord } from '../../../worker/state/state.ts';
import { manualClock } from '../../support/clock.ts';
import { rule } from '../../support/rules.ts';

const LOCATION = 'docker://t.example/app:1';
const DIGEST = digestOf(Buffer.from('image'));
const RECORD: SyncRecord = {
  ...destinationKey(LOCATION),
  source: 'docker://s.example/app:1',
  sourceDigest: DIGEST,
  digest: DIGEST,
  choices: 'all',
  bytes: 1,
  atMs: 0,
  run: 'run',
  rule: 'first',
};
const SECOND = { rule: 'second', from: 'docker://other.example/app:1' };
const FIRST = rule({ name: 'first', from: ['s.example/app'], to: ['t.example/{repository}'] });
const OPTIONS = { dateMs: 0 };

function ownersOver(document: string): { readonly owners: DestinationOwners; readonly reads: () => number } {
  let reads = 0;
  const list = async (): Promise<readonly StoredRule[]> => {
    reads++;
    return [{ name: 'first', document, appliedAtMs: 0, revision: 1 }];
  };
  return { owners: new DestinationOwners({ list }, manualClock(1)), reads: () => reads };
}

describe('the owner of a destination', () => {
  test('is found with one read of the rules, however many destinations it has', async () => {
    const { owners, reads } = ownersOver(formatRule(FIRST));
    for (const record of [RECORD, RECORD])
      expect(await owners.refusal({ location: LOCATION, record }, SECOND, OPTIONS)).toMatchObject({ code: 'CONFLICT' });
    expect(reads()).toBe(1);
  });

  test.each<[string, SyncRecord | undefined, { readonly rule?: string; readonly from: string }]>([
    ['the destination has no record', undefined, SECOND],
    ['the destination was written by hand', { ...RECORD, rule: undefined }, SECOND],
    ['the writer is not a rule', RECORD, { from: SECOND.from }],
    ['the rule has it already', RECORD, { rule: 'first', from: RECORD.source }],
  ])('is not looked for where %s', async (_, record, writer) => {
    const { owners, reads } = ownersOver(formatRule(FIRST));
    expect(await owners.refusal({ location: LOCATION, record }, writer, OPTIONS)).toBeUndefined();
    expect(reads()).toBe(0);
  });

  test.each([
    ['cannot be read', '{"name": "first", "from": "the future"}'],
    ['has expired', formatRule({ ...FIRST, expiresAtMs: 0 })],
  ])('is not a rule that %s', async (_, document) => {
    const { owners } = ownersOver(document);
    expect(await owners.refusal({ location: LOCATION, record: RECORD }, SECOND, OPTIONS)).toBeUndefined();
  });
});
