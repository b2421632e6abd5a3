import { keepSecret } from '../../util/own-secrets.ts';

/** The Authorization header of a user name and password: https://www.rfc-editor.org/rfc/rfc7617. Messages leave the password out from then on. */
export function basicHeader(credentials: { readonly username: string; readonly password: string }): string {
  const encoded = Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64');
  keepSecret(credentials.password);
  keepSecret(encoded);
  return `Basic ${encoded}`;
}
