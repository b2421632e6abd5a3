/**
 * Whether a registry policy denies an action to a caller of the account: as policies have it since their scope is V2, for every request.
 * Conditions and resources are not evaluated: a statement with a condition denies nothing here.
 * https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry-permissions.html
 */
export function deniesAction(policyText: string, action: string, account: string): boolean {
  const { Statement: statements = [] } = JSON.parse(policyText) as { readonly Statement?: unknown };
  return listOf(statements).some((statement) => {
    const { Effect, Principal, Action, Condition } = statement as Readonly<Record<string, unknown>>;
    return (
      Effect === 'Deny' &&
      Condition === undefined &&
      listOf(Action).some((pattern) => matches(String(pattern), action)) &&
      principalsOf(Principal).some(
        (name) => name === '*' || name === account || name === `arn:aws:iam::${account}:root`,
      )
    );
  });
}

function principalsOf(value: unknown): readonly string[] {
  const of = typeof value === 'object' && value !== null ? (value as { readonly AWS?: unknown }).AWS : value;
  return listOf(of).map(String);
}

function matches(pattern: string, action: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${source}$`, 'i').test(action);
}

function listOf(value: unknown): readonly unknown[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}
