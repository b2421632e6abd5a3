import assert from 'node:assert/strict';
import { request } from 'undici';
import { digestOf, type Digest } from '../../worker/oci/digest.ts';
import { MEDIA_TYPE, type Descriptor } from '../../worker/oci/manifest.ts';
import { seededBytes } from './images.ts';

/** A registry's answer as received. */
export interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

export interface RawRequest {
  readonly body?: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface PushedImage {
  readonly bytes: Buffer;
  readonly descriptor: Descriptor;
  readonly config: Digest;
  readonly layer: Digest;
}

/** Sends a registry exactly the request of a test: no retries, no redirects, no corrections. */
export class RawRegistry {
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(url: string, headers: Readonly<Record<string, string>> = {}) {
    this.#url = url;
    this.#headers = headers;
  }

  /** `path` may be a whole URL. */
  async call(
    method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    options: RawRequest = {},
  ): Promise<RawAnswer> {
    const { statusCode, headers, body } = await request(new URL(path, this.#url), {
      method,
      headers: { ...this.#headers, ...options.headers },
      ...(options.body === undefined ? {} : { body: options.body }),
    });
    return { status: statusCode, headers, body: Buffer.from(await body.arrayBuffer()) };
  }

  /** Puts the bytes of an answer into `received` as they arrive; rejects when they break off. */
  async stream(path: string, received: Uint8Array[], headers: Readonly<Record<string, string>> = {}): Promise<void> {
    const { body } = await request(new URL(path, this.#url), { headers: { ...this.#headers, ...headers } });
    for await (const bytes of body as AsyncIterable<Uint8Array>) received.push(bytes);
  }

  /** Where to send the bytes of a new blob. */
  async startUpload(repository: string): Promise<string> {
    const answer = await this.call('POST', `/v2/${repository}/blobs/uploads/`);
    assert.equal(answer.status, 202);
    return locationOf(answer);
  }

  /** Sends the whole blob with the PUT that closes its upload. */
  async putBlob(repository: string, blob: Uint8Array, digest: Digest = digestOf(blob)): Promise<RawAnswer> {
    const location = withDigest(await this.startUpload(repository), digest);
    return this.call('PUT', location, { body: blob });
  }

  async pushBlob(repository: string, blob: Uint8Array, digest: Digest = digestOf(blob)): Promise<Digest> {
    assert.equal((await this.putBlob(repository, blob, digest)).status, 201);
    return digest;
  }

  async putManifest(
    repository: string,
    reference: string,
    bytes: Uint8Array,
    type: string = MEDIA_TYPE.ociManifest,
  ): Promise<RawAnswer> {
    const headers = { 'content-type': type };
    return this.call('PUT', `/v2/${repository}/manifests/${reference}`, { body: bytes, headers });
  }

  /** An image of one layer; equal seeds give equal images. Without a tag it is pushed by its digest. */
  async pushImage(repository: string, tag: string | undefined, seed = 'image'): Promise<PushedImage> {
    const configBytes = Buffer.from(JSON.stringify({ os: 'linux', seed }));
    const config = await this.pushBlob(repository, configBytes);
    const layer = await this.pushBlob(repository, seededBytes(seed, 20_000));
    const bytes = imageOf({ digest: config, size: configBytes.length }, [
      { mediaType: MEDIA_TYPE.ociLayerGzip, digest: layer, size: 20_000 },
    ]);
    const descriptor = { mediaType: MEDIA_TYPE.ociManifest, digest: digestOf(bytes), size: bytes.length };
    assert.equal((await this.putManifest(repository, tag ?? descriptor.digest, bytes)).status, 201);
    return { bytes, config, layer, descriptor };
  }

  async pushIndex(repository: string, tag: string, images: readonly Descriptor[]): Promise<Descriptor> {
    const bytes = indexOf(images);
    assert.equal((await this.putManifest(repository, tag, bytes, MEDIA_TYPE.ociIndex)).status, 201);
    return { mediaType: MEDIA_TYPE.ociIndex, digest: digestOf(bytes), size: bytes.length };
  }

  /** A manifest that refers to `subject`, and the descriptor that the registry should list for it. */
  async pushReferrer(
    repository: string,
    subject: Descriptor,
    artifactType: string,
  ): Promise<{ readonly answer: RawAnswer; readonly descriptor: Descriptor }> {
    const empty = { digest: await this.pushBlob(repository, Buffer.from('{}')), size: 2 };
    const annotations = { 'org.example.kind': artifactType };
    const bytes = imageOf(empty, [], { artifactType, subject, annotations });
    const digest = digestOf(bytes);
    const answer = await this.putManifest(repository, digest, bytes);
    const descriptor = { mediaType: MEDIA_TYPE.ociManifest, digest, size: bytes.length, artifactType, annotations };
    return { answer, descriptor };
  }

  /** A list with all its pages. */
  async list(path: string): Promise<{ readonly items: readonly string[]; readonly requests: number }> {
    const items: string[] = [];
    let requests = 0;
    for (let next: string | undefined = path; next !== undefined; requests++) {
      const page = await this.call('GET', next);
      assert.equal(page.status, 200);
      const body = JSON.parse(page.body.toString()) as { tags?: string[]; repositories?: string[] };
      items.push(...(body.tags ?? body.repositories ?? []));
      next = nextOf(page);
    }
    return { items, requests };
  }
}

/** Status and code of an answer that must be an error in the form of the specification. */
export function errorOf(answer: RawAnswer): readonly [status: number, code: string | undefined] {
  const { errors } = JSON.parse(answer.body.toString()) as { errors: { code: string; message: string }[] };
  return [answer.status, errors[0]?.code];
}

export function messageOf(answer: RawAnswer): string {
  const { errors } = JSON.parse(answer.body.toString()) as { errors: { code: string; message: string }[] };
  return errors[0]?.message ?? '';
}

export function locationOf(answer: RawAnswer): string {
  const location = answer.headers['location'];
  assert.ok(typeof location === 'string');
  return location;
}

export function withDigest(location: string, digest: string): string {
  return `${location}${location.includes('?') ? '&' : '?'}digest=${digest}`;
}

/** The link to the next page, verbatim. */
export function nextOf(answer: RawAnswer): string | undefined {
  const link = answer.headers['link'];
  if (link === undefined) return undefined;
  const [, path] = /^<([^>]+)>; rel="next"$/.exec(String(link)) ?? [];
  assert.ok(path);
  return path;
}

/** Bytes `from` up to `to` of a blob, as a chunk of its upload. */
export function chunk(blob: Uint8Array, from: number, to: number): RawRequest {
  return { body: blob.subarray(from, to), headers: { 'content-range': `${from}-${to - 1}` } };
}

export function imageOf(
  config: { readonly digest: Digest; readonly size: number; readonly mediaType?: string },
  layers: readonly object[],
  more: object = {},
): Buffer {
  const typed = { mediaType: MEDIA_TYPE.ociConfig, ...config };
  return Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociManifest, config: typed, layers, ...more }),
  );
}

export function indexOf(manifests: readonly Descriptor[]): Buffer {
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.ociIndex, manifests }));
}
