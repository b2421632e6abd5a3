import { Failure } from '../util/failure.ts';

/** The value of a formula: sums, products and quotients of numbers and names, with parentheses. BUG for a name that has no value. */
export function calculate(formula: string, values: ReadonlyMap<string, number>): number {
  const tokens = formula.match(/[\d.]+|\w+|[-+*/()]/g) ?? [];
  const next = (): string => tokens.shift() ?? '';
  const operand = (): number => {
    const token = next();
    if (token === '(') {
      const inner = sum();
      next();
      return inner;
    }
    const value = /^[\d.]/.test(token) ? Number(token) : values.get(token);
    if (value === undefined || Number.isNaN(value))
      throw new Failure('BUG', `calculate ${formula}: ${token} has no value`);
    return value;
  };
  const product = (): number => {
    let value = operand();
    while (tokens[0] === '*' || tokens[0] === '/') value = next() === '*' ? value * operand() : value / operand();
    return value;
  };
  const sum = (): number => {
    let value = product();
    while (tokens[0] === '+' || tokens[0] === '-') value = next() === '+' ? value + product() : value - product();
    return value;
  };
  const value = sum();
  if (tokens.length > 0) throw new Failure('BUG', `calculate ${formula}: ${tokens.join(' ')} is left over`);
  return value;
}
