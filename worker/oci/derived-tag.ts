import { hexOf, type Digest } from './digest.ts';

/** https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md#tag-based-discovery */
const COSIGN_SUFFIXES = ['sig', 'att', 'sbom'] as const;
const COSIGN_TAG = new RegExp(`^sha256-[0-9a-f]{64}\\.(?:${COSIGN_SUFFIXES.join('|')})$`);

/** Whether `tag` names what refers to an image, and is found by way of that image: tags of cosign, and those of `referrersTag`. */
export function isDerivedTag(tag: string): boolean {
  return COSIGN_TAG.test(tag) || isReferrersTag(tag);
}

/** Whether a tag is one that lists referrers, as `referrersTag` names them. */
export function isReferrersTag(tag: string): boolean {
  return /^sha(?:256|512)-[0-9a-f]{64}$/.test(tag);
}

/** The image that a tag of cosign is about; undefined for every other tag. */
export function cosignSubject(tag: string): Digest | undefined {
  return COSIGN_TAG.test(tag) ? `sha256:${tag.slice('sha256-'.length, tag.indexOf('.'))}` : undefined;
}

/** The tags under which cosign keeps what it makes for a manifest. None for a digest of sha512, with which they would be too long. */
export function cosignTags(subject: Digest): readonly string[] {
  return subject.startsWith('sha256:') ? COSIGN_SUFFIXES.map((suffix) => `${subject.replace(':', '-')}.${suffix}`) : [];
}

/** The tag by which registries without the referrers API list what refers to `digest`. https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema */
export function referrersTag(digest: Digest): string {
  return `${digest.slice(0, digest.indexOf(':'))}-${hexOf(digest).slice(0, 64)}`;
}
