import type { Backends } from '../../images/backends.ts';
import { writeArchivesSnapshot } from '../../images/snapshot-archives.ts';
import { parseDigest } from '../../oci/digest.ts';
import { parseImagePattern, parseS3 } from '../../oci/location.ts';
import { archiveTemplate, snapshotPrefix } from '../../oci/key-template.ts';
import type { SnapshotJob } from '../../queue/job.ts';
import { patternOf } from '../../queue/many-images.ts';
import { choicesKey } from '../../rules/destinations.ts';
import { anyOf } from '../../util/abort.ts';
import { Failure } from '../../util/failure.ts';
import type { Ended, RunJobOptions } from './job-run.ts';
import type { LeasedDestination } from './leases.ts';
import { RecordedRun } from './recorded-run.ts';
import { writeReport } from './write-report.ts';

/**
 * Writes the snapshot of a run that keeps images of one registry as archives, from what the state recorded of each of them, and records it. Every
 * other job of the run has ended. Images that are new or have moved since the run listed its source, and those whose jobs failed, are failures in
 * the snapshot, and do not make the job fail: their own jobs did. Costs the lists of the registry, a query of the state for each folder of
 * archives, and a HEAD and a range for each archive that the last snapshot does not list. Idempotent: each time writes a snapshot of its own.
 */
export async function writeRunSnapshot(
  job: SnapshotJob,
  destination: LeasedDestination | undefined,
  backends: Backends,
  options: RunJobOptions,
): Promise<Ended> {
  if (destination === undefined) throw new Failure('BUG', 'a snapshot without a place');
  const { key, lease } = destination;
  const signal = anyOf(options.signal, destination.signal);
  const held = { ...options, signal };
  const before = options.destinations.foundBy(lease, key);
  const { bucket, key: template } = parseS3(job.to);
  const prefix = snapshotPrefix(archiveTemplate(template));
  const { registry } = parseImagePattern(patternOf(job));
  const recorded = new RecordedRun(job, registry, backends, held);
  const { scope, failures } = await recorded.scope();
  const written = await writeArchivesSnapshot(
    {
      bucket,
      prefix,
      registry,
      startedAt: new Date(job.at).toISOString(),
      tool: options.tool,
      rule: job.rule,
      run: job.run,
      scope,
      failures,
      repositories: recorded.repositories(),
      previous: before?.digest.slice('sha256:'.length),
    },
    backends,
    held,
  );
  const { name, images, bytes, bytesAdded } = written;
  options.report?.({
    type: 'snapshot-written',
    registry,
    place: `s3://${bucket}/${prefix}`,
    id: name.id,
    images,
    bytesAdded,
    bytes,
  });
  if (job.report === true) {
    const place = { kind: 'archives', text: `s3://${bucket}/${prefix}`, root: { bucket, prefix } } as const;
    await writeReport(place, backends, held);
  }
  const digest = parseDigest(`sha256:${name.id}`);
  const common = { source: patternOf(job), sourceDigest: digest, digest, choices: choicesKey(job) };
  const record = { ...key, ...common, bytes, atMs: options.clock.now(), run: job.run, rule: job.rule };
  await options.destinations.record(record, lease, held);
  return { state: 'done' };
}
