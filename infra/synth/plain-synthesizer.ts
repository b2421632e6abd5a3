import {
  Aws,
  CfnParameter,
  Fn,
  StackSynthesizer,
  type DockerImageAssetLocation,
  type DockerImageAssetSource,
  type FileAssetLocation,
  type FileAssetSource,
  type ISynthesisSession,
} from 'aws-cdk-lib';
import { stringify } from 'yaml';

/**
 * The YAML of a template, with its parameters before its resources. CloudFormation reads YAML 1.1:
 * https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-formats.html
 */
export function plainText({ Resources, Outputs, ...head }: Readonly<Record<string, unknown>>): string {
  return stringify({ ...head, Resources, Outputs }, { aliasDuplicateObjects: false, lineWidth: 0, version: '1.1' });
}

/**
 * Makes templates that can be deployed without CDK and `cdk bootstrap`. Parameters name the places of the functions' code and of the worker's
 * image.
 */
export class PlainSynthesizer extends StackSynthesizer {
  readonly #assetPrefix: string;

  /** `assetPrefix`: the start of the keys of the functions' code in the bucket of assets. */
  constructor({ assetPrefix = '' }: { readonly assetPrefix?: string } = {}) {
    super();
    this.#assetPrefix = assetPrefix;
  }

  addFileAsset({ sourceHash }: FileAssetSource): FileAssetLocation {
    const bucketName = this.#parameter('AssetBucket', 'The bucket with the files of dist/templates/assets');
    const objectKey = `${this.#assetPrefix}${sourceHash}.zip`;
    return {
      bucketName,
      objectKey,
      httpUrl: `https://s3.${Aws.REGION}.${Aws.URL_SUFFIX}/${bucketName}/${objectKey}`,
      s3ObjectUrl: `s3://${bucketName}/${objectKey}`,
    };
  }

  addDockerImageAsset(_asset: DockerImageAssetSource): DockerImageAssetLocation {
    const repositoryName = this.#parameter('WorkerRepository', "The repository in ECR with the worker's image");
    const tag = this.#parameter('WorkerTag', 'The tag of that image');
    const registry = `${Aws.ACCOUNT_ID}.dkr.ecr.${Aws.REGION}.${Aws.URL_SUFFIX}`;
    return { repositoryName, imageUri: Fn.join('', [registry, '/', repositoryName, ':', tag]) };
  }

  synthesize(session: ISynthesisSession): void {
    this.synthesizeTemplate(session);
    this.emitArtifact(session);
  }

  #parameter(id: string, description: string): string {
    const known = this.boundStack.node.tryFindChild(id);
    const parameter = known instanceof CfnParameter ? known : new CfnParameter(this.boundStack, id, { description });
    return parameter.valueAsString;
  }
}
