/** An object with this one member, to spread into another; without it where the value is undefined. */
export function optional<K extends string, T>(name: K, value: T | undefined): { readonly [name in K]?: T } {
  return value === undefined ? {} : ({ [name]: value } as { readonly [name in K]: T });
}
