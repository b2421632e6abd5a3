import { expect, test } from 'vitest';
import { fingerprintOf } from '../../../worker/queue/fingerprint.ts';
import { formatJob, parseMessage, type Job } from '../../../worker/queue/job.ts';

const JOB: Job = {
  version: 1,
  kind: 'backup',
  id: 'j1',
  run: 'r1',
  rule: 'nightly',
  at: '2026-12-01T02:00:00.000Z',
  from: 'docker://registry.example/app:v1',
  to: ['s3://bucket/app/v1.tar'],
};

test('is the same for a job before it is sent and after it is received, also with undefined members', () => {
  const sent: Job = { ...JOB, force: undefined, settings: undefined, platforms: undefined };
  const message = parseMessage(formatJob(sent));
  if (message.type !== 'job') throw new Error('it is no job');
  expect(fingerprintOf(sent)).toBe(fingerprintOf(JOB));
  expect(fingerprintOf(message.job)).toBe(fingerprintOf(JOB));
});

test('is the same for a job that was handed over, and differs for one that asks for something else', () => {
  expect(fingerprintOf({ ...JOB, handovers: 2 })).toBe(fingerprintOf(JOB));
  expect(fingerprintOf({ ...JOB, force: true })).not.toBe(fingerprintOf(JOB));
  expect(fingerprintOf({ ...JOB, settings: false })).not.toBe(fingerprintOf(JOB));
});
