/** An ETag without quotes: S3 and servers that speak its protocol quote it in one answer and not in another. */
export function plainEtag(etag: string): string {
  return etag.replaceAll('"', '');
}

/** Whether two ETags are equal, quoted or not. Two that are absent are. */
export function sameEtag(one: string | undefined, other: string | undefined): boolean {
  return one?.replaceAll('"', '') === other?.replaceAll('"', '');
}
