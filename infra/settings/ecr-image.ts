/** The parts of an image reference of ECR. */
export interface EcrImage {
  readonly account: string;
  readonly region: string;
  readonly repository: string;
  /** A tag or a digest: a task definition accepts one of them. */
  readonly reference: string;
}

/** Hosts of ECR, including those that `parseEcrImage` does not accept. */
const HOST = /^[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\./;
const IMAGE =
  /^([0-9]{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?\/([a-z0-9._/-]+)(?::([\w.-]+)|@(sha256:[0-9a-f]+))$/;

/** The Region of the registry. Undefined: the image is not in ECR. */
export function ecrRegionOf(image: string): string | undefined {
  return HOST.exec(image)?.[1];
}

/**
 * Parses an image reference of ECR. Undefined: the image is not in ECR, or no permission can be made from its form: a FIPS or dual-stack endpoint,
 * or neither or both of tag and digest. https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html
 */
export function parseEcrImage(image: string): EcrImage | undefined {
  const [, account, region, repository, tag, digest] = IMAGE.exec(image) ?? [];
  const reference = tag ?? digest;
  if (account === undefined || region === undefined || repository === undefined || reference === undefined)
    return undefined;
  return { account, region, repository, reference };
}
