import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { digestOf } from '../../worker/oci/digest.ts';
import { Faults } from '../faults.ts';

const GET = { operations: ['GetObject'], key: 'k' };
const PUT = { operations: ['PutObject'], key: 'k' };

describe('a fault', () => {
  test('strikes the next request by default, once', () => {
    const faults = new Faults();
    faults.add({}, { kind: 'lose-answer' });
    assert.deepEqual([faults.take(PUT), faults.take(PUT)], [{ kind: 'lose-answer' }, undefined]);
  });

  test('strikes only requests of its operation, its key and its digest', () => {
    const digest = digestOf(Buffer.from('blob'));
    const faults = new Faults();
    faults.add({ operation: 'GetObject' }, { kind: 'answer' });
    faults.add({ key: 'other' }, { kind: 'lose-answer' });
    faults.add({ digest }, { kind: 'cut-request' });
    assert.equal(faults.take(PUT), undefined);
    assert.deepEqual(faults.take(GET), { kind: 'answer' });
    assert.deepEqual(faults.take({ ...PUT, key: 'other' }), { kind: 'lose-answer' });
    assert.equal(faults.take({ operations: ['blob-get'] }), undefined);
    assert.deepEqual(faults.take({ operations: ['blob-get'], digest }), { kind: 'cut-request' });
    assert.equal(faults.pending, 0);
  });

  test('matches a request by any of its names', () => {
    const faults = new Faults();
    faults.add({ operation: 'DescribeImages' }, { kind: 'answer' });
    faults.add({ operation: 'api' }, { kind: 'lose-answer' });
    const call = { operations: ['api', 'DescribeImages'] };
    assert.deepEqual([faults.take(call), faults.take(call)], [{ kind: 'answer' }, { kind: 'lose-answer' }]);
  });

  test('skips the given number of requests, whatever happened to them', () => {
    const faults = new Faults();
    faults.add({ times: 2 }, { kind: 'answer' });
    faults.add({ skip: 2 }, { kind: 'lose-answer' });
    faults.add({ skip: 2 }, { kind: 'cut-request' });
    const taken = [1, 2, 3, 4, 5].map(() => faults.take(GET)?.kind);
    assert.deepEqual(taken, ['answer', 'answer', 'lose-answer', 'cut-request', undefined]);
  });

  test('is pending until it has struck as often as requested, or is taken back', () => {
    const faults = new Faults();
    faults.add({ operation: 'GetObject', times: 3 }, { kind: 'answer' });
    faults.take(GET);
    faults.take(PUT);
    assert.equal(faults.pending, 2);
    faults.clear();
    assert.deepEqual([faults.pending, faults.take(GET)], [0, undefined]);
  });

  test('is refused when it could never strike', () => {
    for (const times of [0, -1, Number.NaN])
      assert.throws(() => new Faults().add({ times }, { kind: 'answer' }), { code: 'BUG' });
  });

  test('strikes a share of requests at random, the same with the same seed', () => {
    const strikes = (seed: number): string => {
      const faults = new Faults({ seed });
      faults.add({ share: 0.3 }, { kind: 'answer' });
      return Array.from({ length: 1000 }, () => (faults.take(GET) === undefined ? '.' : 'x')).join('');
    };
    const once = strikes(7);
    assert.equal(strikes(7), once);
    assert.notEqual(strikes(8), once);
    const share = once.replaceAll('.', '').length / 1000;
    assert.ok(share > 0.25 && share < 0.35, `${share}`);
  });
});

test('a server that is unavailable cuts or refuses every request, and keeps what was queued', () => {
  const faults = new Faults();
  faults.add({}, { kind: 'lose-answer' });
  faults.goAway();
  assert.deepEqual(faults.take(GET), { kind: 'cut-request' });
  faults.goAway('unavailable');
  assert.deepEqual(faults.take(GET), { kind: 'answer', status: 503, code: 'ServiceUnavailable' });
  faults.goAway('silent');
  assert.deepEqual(faults.take(GET), { kind: 'delay', ms: 60_000 });
  faults.comeBack();
  assert.deepEqual(faults.take(GET), { kind: 'lose-answer' });
  faults.goAway();
  faults.clear();
  assert.equal(faults.away, undefined);
});
