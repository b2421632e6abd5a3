/**
 * Whether a filter of CloudWatch Logs matches a line of JSON, for the part of its language that is used here: `=`, `!=`, `IS TRUE`, `IS FALSE`,
 * `&&`, `||` and parentheses; `*` at the end of a string matches anything. https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
 */
export function matches(pattern: string, line: unknown): boolean {
  const tokens = pattern.match(/\$[\w.-]+|!=|=|&&|\|\||IS (?:TRUE|FALSE)|"[^"]*"|[(){}]/g) ?? [];
  const dense = (text: string): string => text.replace(/\s/g, '');
  if (dense(tokens.join('')) !== dense(pattern)) throw new Error(`not all of it is understood: ${pattern}`);
  const next = (): string => tokens.shift() ?? '';
  const expect = (token: string): void => {
    const found = next();
    if (found !== token) throw new Error(`${pattern}: ${found} where ${token} was expected`);
  };
  const condition = (): boolean => {
    const token = next();
    if (token === '(') {
      const value = either();
      expect(')');
      return value;
    }
    const value = token.slice(2).split('.').reduce(memberOf, line);
    const operator = next();
    if (operator.startsWith('IS ')) return value === (operator === 'IS TRUE');
    const wanted = next().slice(1, -1);
    const equal =
      wanted === '*'
        ? value !== undefined
        : wanted.endsWith('*')
          ? typeof value === 'string' && value.startsWith(wanted.slice(0, -1))
          : value === wanted;
    return operator === '=' ? equal : !equal;
  };
  const both = (): boolean => {
    let value = condition();
    while (tokens[0] === '&&') value = [next(), condition()].at(-1) === true && value;
    return value;
  };
  const either = (): boolean => {
    let value = both();
    while (tokens[0] === '||') value = [next(), both()].at(-1) === true || value;
    return value;
  };
  expect('{');
  const found = either();
  expect('}');
  return found;
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}
