import { parseS3 } from '../oci/location.ts';
import { Failure } from '../util/failure.ts';
import { quote } from '../util/text.ts';
import { parseRegistryHost, registryName } from './sources.ts';

/**
 * Reads an entry of `allow`: the host of a registry, `s3://bucket`, or an account of twelve digits, which stands for its ECR registries in all
 * Regions. Returns its canonical name. INVALID for others.
 */
export function parseAllowed(text: string): string {
  if (/^[0-9]{12}$/.test(text)) return text;
  if (!text.startsWith('s3://')) return registryName(parseRegistryHost(text));
  const { bucket, key } = parseS3(text);
  if (key === '' && !text.endsWith('/')) return `s3://${bucket}`;
  throw new Failure('INVALID', `${quote(text)} names more than a bucket: expected ${quote(`s3://${bucket}`)}`);
}
