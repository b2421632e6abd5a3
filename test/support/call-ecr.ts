import assert from 'node:assert/strict';

/** One call of the API of an embedded ECR. */
export async function callEcr(url: string, region: string, operation: string, input: object): Promise<void> {
  const answer = await fetch(url, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-target': `AmazonEC2ContainerRegistry_V20150921.${operation}`,
      authorization: `AWS4-HMAC-SHA256 Credential=local/20260101/${region}/ecr/aws4_request, SignedHeaders=host, Signature=0`,
    },
    body: JSON.stringify(input),
  });
  assert(answer.ok, await answer.text());
}
