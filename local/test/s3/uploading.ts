import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  ListPartsCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
  type CompletedPart,
  type CompleteMultipartUploadCommandOutput,
} from '@aws-sdk/client-s3';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { BUCKET, openS3, randomBytes, type OpenS3 } from '../../../test/support/local-s3.ts';

export const PART = 4096;

/** Multipart uploads to one key. */
export class Uploading {
  readonly #open: OpenS3;
  readonly #at: { readonly Bucket: string; readonly Key: string; readonly UploadId: string };

  private constructor(open: OpenS3, key: string, id: string) {
    this.#open = open;
    this.#at = { Bucket: BUCKET, Key: key, UploadId: id };
  }

  /** With CRC32 checksums, composite, by default. */
  static async begin(open: OpenS3, Key: string, o: object = {}): Promise<Uploading> {
    const command = new CreateMultipartUploadCommand({ Bucket: BUCKET, Key, ChecksumAlgorithm: 'CRC32', ...o });
    const { UploadId = '' } = await open.client.send(command);
    return new Uploading(open, Key, UploadId);
  }

  get id(): string {
    return this.#at.UploadId;
  }

  /** The part as Complete lists it. */
  async part(PartNumber: number, Body: Buffer | Readable, o: object = {}): Promise<CompletedPart> {
    const sent = await this.#open.client.send(new UploadPartCommand({ ...this.#at, PartNumber, Body, ...o }));
    return asListed(PartNumber, sent);
  }

  async copy(PartNumber: number, CopySource: string, o: object = {}): Promise<CompletedPart> {
    const command = new UploadPartCopyCommand({ ...this.#at, PartNumber, CopySource, ...o });
    return asListed(PartNumber, (await this.#open.client.send(command)).CopyPartResult ?? {});
  }

  async complete(Parts: CompletedPart[], o: object = {}): Promise<CompleteMultipartUploadCommandOutput> {
    const command = new CompleteMultipartUploadCommand({ ...this.#at, MultipartUpload: { Parts }, ...o });
    return this.#open.client.send(command);
  }

  async list(o: object = {}): Promise<number[]> {
    const { Parts = [] } = await this.#open.client.send(new ListPartsCommand({ ...this.#at, ...o }));
    return Parts.map(({ PartNumber = 0 }) => PartNumber);
  }

  async abort(): Promise<unknown> {
    return this.#open.client.send(new AbortMultipartUploadCommand(this.#at));
  }
}

function asListed(PartNumber: number, part: CompletedPart): CompletedPart {
  const { ETag, ChecksumCRC32, ChecksumCRC32C, ChecksumCRC64NVME, ChecksumSHA1, ChecksumSHA256 } = part;
  return { PartNumber, ETag, ChecksumCRC32, ChecksumCRC32C, ChecksumCRC64NVME, ChecksumSHA1, ChecksumSHA256 };
}

export async function bytesOf(open: OpenS3, key: string, o: object = {}): Promise<Buffer> {
  const { Body } = await open.client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key, ...o }));
  return Buffer.from((await Body?.transformToByteArray()) ?? []);
}

export const files = async (open: OpenS3): Promise<number> => (await readdir(join(open.dir, 'data'))).length;
export const openSmall = async (): Promise<OpenS3> => openS3({ minPartBytes: PART });
export const part = (n: number, bytes = PART): Buffer => randomBytes(bytes, n);
/** With a client that sends no checksums of its own. */
export const openBare = async (): Promise<OpenS3> =>
  openS3({ minPartBytes: PART, client: { requestChecksumCalculation: 'WHEN_REQUIRED' } });

export const UNDECLARED = { ChecksumAlgorithm: undefined };
