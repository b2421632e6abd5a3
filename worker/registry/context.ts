import type { LRUCache } from 'lru-cache';
import type { Descriptor } from '../oci/manifest.ts';
import type { Clock } from '../util/clock.ts';
import type { Report } from '../util/events.ts';
import type { EcrRegistry } from './ecr/ecr.ts';
import type { Mounts, Pace, PullBudget } from './rate.ts';
import type { RepositorySettings } from './ecr/repository-settings.ts';
import type { Transport } from './transport/transport.ts';

/** A list of tags that was read, or is being read. */
export interface TagListing {
  readonly begunMs: number;
  readonly tags: Promise<ReadonlySet<string> | undefined>;
}

/** What the parts of one repository share. */
export interface RepositoryContext {
  readonly transport: Transport;
  /** As in references. */
  readonly host: string;
  readonly name: string;
  /** What tokens for it have to allow. */
  readonly scopes: readonly string[];
  readonly clock: Clock;
  readonly report: Report | undefined;
  /** Undefined for all but private registries of ECR. */
  readonly ecr: EcrRegistry | undefined;
  /** How a missing repository of ECR is created; undefined: it is not. */
  readonly create: RepositorySettings | undefined;
  /** For manifests that are written. */
  readonly pace: Pace | undefined;
  /** For manifests that are read. */
  readonly pulls: PullBudget;
  readonly mounts: Mounts;
  /** Manifests that were read and verified, by `repository@digest`: most are asked for again. */
  readonly keptManifests: LRUCache<string, Uint8Array>;
  /** The last lists of tags that were read, by repository. */
  readonly tagLists: LRUCache<string, TagListing>;
  /** What tags stood for, by `repository:tag`, and when the registry was asked. */
  readonly resolvedTags: LRUCache<string, { readonly descriptor: Descriptor; readonly askedMs: number }>;
}
