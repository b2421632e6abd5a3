import assert from 'node:assert/strict';
import { test } from 'vitest';
import type { Reference } from '../../../worker/oci/reference.ts';
import { archiveTemplate, expandTemplate, withRegionNames } from '../../../worker/oci/key-template.ts';

const now = new Date('2026-11-21T23:30:00Z');
const ecr: Reference = { registry: '111111111111.dkr.ecr.eu-west-1.amazonaws.com', repository: 'team/app', tag: 'v1' };
const hub: Reference = { registry: 'docker.io', repository: 'library/alpine', tag: '3.20' };

test('the default key is region, repository and tag', () => {
  assert.equal(expandTemplate(archiveTemplate(''), ecr, undefined, now), 'eu-west-1/team/app/v1.tar');
});

test('a folder is followed by the default, and any other key is the template', () => {
  assert.equal(archiveTemplate('daily/'), 'daily/{regionName}/{repository}/{tag}.tar');
  assert.equal(archiveTemplate('{tag}.tar'), '{tag}.tar');
});

test('registries without a Region are named by their host', () => {
  assert.equal(expandTemplate(archiveTemplate(''), hub, undefined, now), 'docker.io/library/alpine/3.20.tar');
  const port = { ...hub, registry: 'localhost:5000' };
  assert.equal(expandTemplate('{registry}/x', port, undefined, now), 'localhost_5000/x');
});

test('every variable is known', () => {
  const digest = `sha256:${'cd'.repeat(32)}` as const;
  assert.equal(
    expandTemplate('{account}/{region}/{date}/{digest}', ecr, digest, now),
    `111111111111/eu-west-1/2026-11-21/${'cd'.repeat(32)}`,
  );
});

test('Regions may have other names', () => {
  const template = withRegionNames(archiveTemplate(''), { 'us-east-1': 'virginia', 'eu-west-1': 'ireland' });
  assert.equal(template, '{regionName|us-east-1=virginia,eu-west-1=ireland}/{repository}/{tag}.tar');
  assert.equal(expandTemplate(template, ecr, undefined, now), 'ireland/team/app/v1.tar');
  assert.equal(expandTemplate(template, hub, undefined, now), 'docker.io/library/alpine/3.20.tar');
  assert.equal(withRegionNames(template, { 'us-east-1': 'x' }), template);
  for (const wrong of ['{regionName|}', '{regionName|x}', '{regionName|a=b/c}', '{tag|a=b}'])
    assert.throws(() => expandTemplate(wrong, ecr, undefined, now), /is not one of/);
});

test('an unknown variable, and one that the image does not have, are refused by name', () => {
  assert.throws(() => expandTemplate('{name}.tar', ecr, undefined, now), /\{name\} is not one of \{regionName\}/);
  assert.throws(
    () => expandTemplate('{account}.tar', hub, undefined, now),
    /docker\.io is not ECR and has no \{account\}/,
  );
});
