/** An image of ECR in its parts. */
export interface EcrImage {
  readonly account: string;
  readonly region: string;
  readonly repository: string;
  /** A tag or a digest: a task takes the one or the other. */
  readonly reference: string;
}

/** Also of what `parseEcrImage` does not read. */
const HOST = /^[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\./;
const IMAGE =
  /^([0-9]{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?\/([a-z0-9._/-]+)(?::([\w.-]+)|@(sha256:[0-9a-f]+))$/;

/** The region of the registry. Undefined: it is no registry of ECR. */
export function ecrRegionOf(image: string): string | undefined {
  return HOST.exec(image)?.[1];
}

/**
 * Undefined: it is not of ECR, or in a form that no permission can be made of: of an endpoint for FIPS or two stacks, or with neither or both of
 * tag and digest. https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html
 */
export function parseEcrImage(image: string): EcrImage | undefined {
  const [, account, region, repository, tag, digest] = IMAGE.exec(image) ?? [];
  const reference = tag ?? digest;
  if (account === undefined || region === undefined || repository === undefined || reference === undefined)
    return undefined;
  return { account, region, repository, reference };
}
