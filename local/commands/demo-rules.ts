import type { Stack } from '../stack.ts';

/** The rules of the demo but the one that publishes, as a rules file. */
export function rulesOf({ ecr, otherEcr, registry, bucket }: Stack): string {
  return `version: 1
rules:
  - name: products
    backup:
      from: ${ecr.registryHost}/product/*
      to: s3://${bucket}/{regionName}/{repository}/{tag}.tar
    on: push
    schedule: "* * * * * *"   # every second, so that you need not wait
  - name: base-images
    mirror:
      from: ${registry.host}/base/node
      to: ${otherEcr.registryHost}/hub/{repository}
      tags: { semver: ">=24" }
    schedule: "* * * * * *"
`;
}
