/** The Authorization header of a user name and password: https://www.rfc-editor.org/rfc/rfc7617 */
export function basicHeader(credentials: { readonly username: string; readonly password: string }): string {
  return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`;
}
