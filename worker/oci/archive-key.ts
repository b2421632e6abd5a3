/** Beside the archives of a repository: its settings, restored before the images. */
export const SETTINGS_NAME = 'repository.json';

export type ArchiveKind = 'tar' | 'tar.gz' | 'tar.zst';

/** How the archive at `key` is packed, by its ending; undefined for a key with another ending. */
export function archiveKindOf(key: string): ArchiveKind | undefined {
  if (key.endsWith('.tar')) return 'tar';
  if (key.endsWith('.tar.gz')) return 'tar.gz';
  return key.endsWith('.tar.zst') ? 'tar.zst' : undefined;
}

/** Whether the archive at `key` is compressed: it cannot be read in place. */
export function isCompressed(key: string): boolean {
  const kind = archiveKindOf(key);
  return kind === 'tar.gz' || kind === 'tar.zst';
}
