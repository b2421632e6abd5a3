import { expect, test } from 'vitest';
import { chosenImages } from '../../../worker/images/select-images.ts';
import { digestOf } from '../../../worker/oci/digest.ts';
import { MEDIA_TYPE } from '../../../worker/oci/manifest.ts';

const digest = (seed: string): ReturnType<typeof digestOf> => digestOf(Buffer.from(seed));
const tagOf = (seed: string): string => digest(seed).replace(':', '-');

test('chooses a tag that looks like that of a list of referrers only where it names an image', () => {
  const row = { pushedAt: undefined, mediaType: MEDIA_TYPE.ociIndex };
  const manifests = [
    { ...row, digest: digest('app'), tags: ['v1'] },
    { ...row, digest: digest('list of app'), tags: [tagOf('app')] },
    { ...row, digest: digest('index'), tags: [tagOf('a commit')] },
    { ...row, digest: digest('image'), tags: [tagOf('another commit')], mediaType: MEDIA_TYPE.ociManifest },
    { ...row, digest: digest('own'), tags: [tagOf('own')] },
    { ...row, digest: digest('pushed just now'), tags: [tagOf('unknown')], mediaType: undefined },
    { ...row, digest: digest('signature'), tags: [`${tagOf('app')}.sig`], mediaType: MEDIA_TYPE.ociManifest },
  ];
  const named = ['v1', tagOf('a commit'), tagOf('another commit'), tagOf('own')];
  const select = (images: Parameters<Parameters<typeof chosenImages>[0]>[0]): typeof images =>
    images.filter((one) => one.tag === 'v1' || one.namesImage === true);
  expect([...chosenImages(select, manifests).tags].toSorted()).toEqual(named.toSorted());
});
