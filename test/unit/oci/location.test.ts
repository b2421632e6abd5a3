import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import {
  formatLocation,
  matchesPattern,
  parseDestination,
  parseImagePattern,
  parseLocation,
  parseRegistryTarget,
  parseS3,
} from '../../../worker/oci/location.ts';
import { isFailure } from '../../../worker/util/failure.ts';

const hex = 'ab'.repeat(32);

describe('places of images', () => {
  const same: readonly string[] = [
    'docker://docker.io/library/alpine:3.20',
    `docker://localhost:5000/a/b@sha256:${hex}`,
    's3://my-bucket/us-east-1/app/v1.tar',
    'oci-archive:/tmp/x.tar',
    'oci-archive:x.tar:v1',
    'oci:folder/with/parts:v1',
    'oci-archive:s.tar:db:latest',
    'oci-archive:s.tar:localhost:5000/team/db:latest',
    'oci-archive:/tmp/12:30/s.tar',
    'oci-archive:/tmp/12:30/s.tar:v1',
    'oci-archive:s.tar:@0',
    'oci:folder:@2',
  ];
  for (const text of same) {
    test(`${text} reads back to itself`, () => assert.equal(formatLocation(parseLocation(text)), text));
  }

  test('a host with a port is not an image, because its repository is missing', () => {
    for (const text of ['docker://127.0.0.1:23205', 'localhost:5000', 'r.example:443/', '[::1]:5000'])
      for (const parse of [parseLocation, parseDestination])
        assert.throws(() => parse(text), { code: 'INVALID', message: /names a registry, and a repository is missing/ });
  });

  test('a bare reference is read like docker reads it', () => {
    assert.equal(formatLocation(parseLocation('alpine')), 'docker://docker.io/library/alpine:latest');
    assert.equal(formatLocation(parseLocation('localhost:5000/x')), 'docker://localhost:5000/x:latest');
  });

  test('docker-archive: is read like oci-archive:', () => {
    assert.deepEqual(parseLocation('docker-archive:x.tar:v1'), { transport: 'archive', path: 'x.tar', tag: 'v1' });
  });

  const chosen: readonly (readonly [string, string, string | undefined])[] = [
    ['docker-archive:s.tar:db:latest', 's.tar', 'db:latest'],
    ['docker-archive:/tmp/s.tar.gz:ghcr.io/team/db:1', '/tmp/s.tar.gz', 'ghcr.io/team/db:1'],
    ['docker-archive:s.tar:db', 's.tar', 'db'],
    ['docker-archive:s.tar:@1', 's.tar', '@1'],
    ['docker-archive:s.tar', 's.tar', undefined],
    ['docker-archive:saved:db:latest', 'saved', 'db:latest'],
  ];
  for (const [text, path, tag] of chosen) {
    test(`${text} chooses an image of an archive as skopeo does`, () =>
      assert.deepEqual(parseLocation(text), { transport: 'archive', path, tag }));
  }

  test('refuses to write an archive under the name or index of one image of several', () => {
    for (const text of ['docker-archive:s.tar:db:latest', 'oci-archive:s.tar:@0', 'oci:folder:@0'])
      assert.throws(() => parseDestination(text), /is written under a tag/);
  });

  const refused: readonly (readonly [string, RegExp])[] = [
    ['s3://bucket', /has a key/],
    ['s3://bucket/', /has a key/],
    ['s3://Bad_Bucket/key', /expected s3:\/\/bucket\/key/],
    ['dir:/tmp/x', /dir: is not supported; .*oci:/],
    ['dir:x', /dir: is not supported/],
    ['containers-storage://x', /containers-storage: is not supported; .*podman save/],
    ['containers-storage:localhost/x:1', /containers-storage: is not supported/],
    ['docker-daemon:x:latest', /docker-daemon: is not supported; .*docker save/],
    ['http://r.example/x', /http: is not one of/],
    ['docker-archive:s.tar:@x', /is not a tag/],
    ['oci-archive:', /expected a path/],
    ['oci:folder:bad tag', /is not a tag/],
    ['docker://r.example/UPPER', /lower case/],
    ['', /not an image reference/],
  ];
  for (const [text, why] of refused) {
    test(`${JSON.stringify(text)} is refused with one sentence`, () => {
      assert.throws(
        () => parseLocation(text),
        (error) => isFailure(error, 'INVALID') && why.test(error.message),
      );
    });
  }
});

describe('patterns', () => {
  test('a repository alone means all its tags, a reference one tag', () => {
    assert.deepEqual(parseImagePattern('localhost:5000/app'), {
      registry: 'localhost:5000',
      repository: 'app',
      tag: undefined,
    });
    assert.equal(parseImagePattern('docker://localhost:5000/app:v1').tag, 'v1');
  });

  test('wildcards are allowed in repositories and in tags', () => {
    assert.deepEqual(parseImagePattern('docker://r.example/product/*:v{1,2}.*'), {
      registry: 'r.example',
      repository: 'product/*',
      tag: 'v{1,2}.*',
    });
    assert.deepEqual(parseImagePattern('localhost:5000/*'), {
      registry: 'localhost:5000',
      repository: '*',
      tag: undefined,
    });
  });

  test('the host of an ECR registry alone means everything in it', () => {
    const registry = '111111111111.dkr.ecr.us-east-1.amazonaws.com';
    for (const text of [registry, `${registry}/`, `docker://${registry}`])
      assert.deepEqual(parseImagePattern(text), { registry, repository: '*', tag: undefined });
  });

  test('a host with a port means everything in that registry, and not a tag of Docker Hub', () => {
    for (const registry of ['127.0.0.1:23205', 'localhost:5000', 'r.example:443', '[::1]:5000'])
      for (const text of [registry, `${registry}/`, `docker://${registry}`])
        assert.deepEqual(parseImagePattern(text), { registry, repository: '*', tag: undefined });
    assert.deepEqual(parseImagePattern('busybox:1'), {
      registry: 'docker.io',
      repository: 'library/busybox',
      tag: '1',
    });
  });

  test('a pattern without a registry, or by digest, is refused', () => {
    assert.throws(() => parseImagePattern('product/*'), /names its registry/);
    assert.throws(() => parseImagePattern(`localhost/x@sha256:${hex}`), /by digest/);
  });

  const table: readonly (readonly [string, string, boolean])[] = [
    ['*', 'a/b', true],
    ['product/*', 'product/a/b', true],
    ['product/*', 'product', false],
    ['{a,b}/x', 'b/x', true],
    ['{a,b}/x', 'c/x', false],
    ['v1.*', 'v1.2', true],
    ['v1.*', 'v12', false],
    ['a+b', 'aab', false],
    ['3.{1,2*}', '3.22', true],
  ];
  for (const [pattern, text, expected] of table) {
    test(`${pattern} ${expected ? 'matches' : 'does not match'} ${text}`, () =>
      assert.equal(matchesPattern(pattern, text), expected));
  }

  test('a pattern of many stars is compared in linear time with a name that it nearly matches', () => {
    const begun = process.threadCpuUsage();
    assert.equal(matchesPattern(`${'*a'.repeat(50)}*b`, 'a'.repeat(255)), false);
    assert.ok(process.threadCpuUsage(begun).user < 500_000);
  });

  test('a pattern that is too long is refused', () =>
    assert.throws(() => matchesPattern('*a'.repeat(10_000), 'a'), { code: 'INVALID', message: /too long/ }));

  test('an open brace is refused', () => assert.throws(() => matchesPattern('{a,b', 'a'), /brace is not closed/));
});

describe('registries and buckets as destinations', () => {
  test('a host, with or without a prefix', () => {
    assert.deepEqual(parseRegistryTarget('docker://localhost:5000'), { registry: 'localhost:5000', prefix: '' });
    assert.deepEqual(parseRegistryTarget('docker://r.example/a/b/'), { registry: 'r.example', prefix: 'a/b' });
  });

  test('what is not a host is refused', () =>
    assert.throws(() => parseRegistryTarget('docker://justaname'), /named by its host/));

  test('a bucket alone has an empty key', () => {
    assert.deepEqual(parseS3('s3://bucket'), { bucket: 'bucket', key: '' });
    assert.deepEqual(parseS3('s3://bucket/a b/ü.tar'), { bucket: 'bucket', key: 'a b/ü.tar' });
  });
});
