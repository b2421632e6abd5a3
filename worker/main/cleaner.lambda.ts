// A place to bundle from until the Cleaner's own file is here.
export async function handler(): Promise<void> {
  await Promise.resolve();
}
