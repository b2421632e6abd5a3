import type { Digest } from '../oci/digest.ts';
import { contentOf } from '../store/expanded.ts';
import type { StateImage } from '../store/state.ts';
import { orAborted, type Abortable } from '../util/abort.ts';
import type { PlannedRepository } from './restore-plan.ts';

/** Refused mounts after which a registry that never took one is taken not to mount. */
const MAX_REFUSED = 3;

/** The image that sends blobs which other repositories get too. */
interface Sender {
  readonly repository: string;
  readonly settled: PromiseWithResolvers<void>;
  isThere: boolean;
}

/**
 * Which image of a restore sends a blob that several repositories get: the first that names it, in the order of the plan. Images of later
 * repositories wait for it, and mount the blob then, so that a registry that mounts gets each blob once. ECR mounts only what a manifest names
 * (https://github.com/aws/containers-roadmap/issues/2860), so they wait for the whole image. A refused mount costs no request of its own: it
 * begins the upload. Waiting goes from later repositories to earlier ones alone, so no two wait for each other.
 */
export class SharedBlobs {
  readonly #senders = new Map<StateImage, Sender>();
  readonly #senderOf = new Map<Digest, Sender>();
  #refused = 0;
  #mounts = false;

  constructor(planned: readonly PlannedRepository[]) {
    const first = new Map<Digest, { readonly planned: PlannedRepository; readonly image: StateImage }>();
    for (const one of planned)
      for (const image of one.images)
        for (const { digest, mediaType } of contentOf(image)) {
          if (mediaType !== undefined) continue;
          const before = first.get(digest);
          if (before === undefined) first.set(digest, { planned: one, image });
          else if (before.planned !== one) this.#senderOf.set(digest, this.#sender(before.planned, before.image));
        }
  }

  /** Waits until the images of earlier repositories that send blobs of this one are restored, or failed. Take no slot before. */
  async ready({ to: { repository } }: PlannedRepository, image: StateImage, options: Abortable): Promise<void> {
    const senders = new Set(contentOf(image).flatMap(({ digest }) => this.#senderOf.get(digest) ?? []));
    for (const sender of senders)
      if (sender.repository !== repository && this.#mayMount()) await orAborted(sender.settled.promise, options);
  }

  /** Where a repository can mount the blob from. */
  mountFrom({ to: { repository } }: PlannedRepository, digest: Digest): readonly string[] {
    const sender = this.#senderOf.get(digest);
    const isElsewhere = sender?.isThere === true && sender.repository !== repository;
    return isElsewhere && this.#mayMount() ? [sender.repository] : [];
  }

  /** An image is restored, or cannot be. */
  settle(image: StateImage, isThere: boolean): void {
    const sender = this.#senders.get(image);
    if (sender === undefined) return;
    sender.isThere = isThere;
    sender.settled.resolve();
  }

  /** The registry mounted a blob, or refused to. */
  mounted(isMounted: boolean): void {
    if (isMounted) this.#mounts = true;
    else this.#refused++;
  }

  #mayMount(): boolean {
    return this.#mounts || this.#refused < MAX_REFUSED;
  }

  #sender({ to: { repository } }: PlannedRepository, image: StateImage): Sender {
    const sender = this.#senders.get(image) ?? { repository, settled: Promise.withResolvers<void>(), isThere: false };
    this.#senders.set(image, sender);
    return sender;
  }
}
