/** https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md#tag-based-discovery */
export const COSIGN_SUFFIXES = ['sig', 'att', 'sbom'] as const;
export const COSIGN_TAG = new RegExp(`^sha256-[0-9a-f]{64}\\.(?:${COSIGN_SUFFIXES.join('|')})$`);

/**
 * Whether `tag` names what refers to an image, and is found by way of that image: the tags of cosign, and those by which registries without
 * the referrers API list referrers (https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema).
 */
export function isDerivedTag(tag: string): boolean {
  return COSIGN_TAG.test(tag) || /^sha(?:256|512)-[0-9a-f]{64}$/.test(tag);
}
