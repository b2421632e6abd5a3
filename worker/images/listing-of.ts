import { ListingDigest } from '../artifacts/listing.ts';
import type { Digest } from '../oci/digest.ts';
import type { ObjectPlace } from '../oci/object-place.ts';
import type { Abortable } from '../util/abort.ts';
import type { Backends } from './backends.ts';
import { listedIn, openPlace } from './object-places.ts';

/** The digest of the listing of `from` now, as `PublishResult.listing` has it. By LIST requests alone; memory does not grow with the list. */
export async function listingOf(from: ObjectPlace, backends: Backends, options: Abortable): Promise<Digest> {
  const digest = new ListingDigest();
  for await (const object of listedIn(openPlace(from, backends), options)) digest.add(object);
  return digest.digest();
}
