// What a token allows: https://distribution.github.io/distribution/spec/auth/scope/

/** The scope for reading a repository, and for writing to it or deleting from it. */
export function repositoryScope(repository: string, access: 'pull' | 'pull,push' | 'pull,push,delete'): string {
  return `repository:${repository}:${access}`;
}

/** The first repository that the scopes are about: credentials may differ by it. */
export function repositoryOf(scopes: readonly string[]): string | undefined {
  return /^repository:(.+):[^:]*$/.exec(scopes[0] ?? '')?.[1];
}

/** Whether a token for `own` does for `wanted` too: the same resource, and every action. */
export function covers(own: string, wanted: string): boolean {
  const [resource, actions] = split(own);
  const [wantedResource, wantedActions] = split(wanted);
  return resource === wantedResource && wantedActions.every((action) => actions.includes(action));
}

function split(scope: string): [string, readonly string[]] {
  const colon = scope.lastIndexOf(':');
  return [scope.slice(0, Math.max(colon, 0)), scope.slice(colon + 1).split(',')];
}
