import { expect, test } from 'vitest';
import { readSettings } from '../../worker/settings.ts';
import { connectService } from '../../worker/wire.ts';

test('a command that needs the deployed system names every variable that is missing', () => {
  const url = 'http://127.0.0.1:1/000000000000/jobs';
  expect(() => connectService(readSettings({}))).toThrow(
    /needs TRANSSHIP_QUEUE_URL and TRANSSHIP_DEAD_LETTER_QUEUE_URL and TRANSSHIP_TABLE: set them to/,
  );
  expect(() =>
    connectService(readSettings({ TRANSSHIP_QUEUE_URL: url, TRANSSHIP_DEAD_LETTER_QUEUE_URL: url })),
  ).toThrow(/needs TRANSSHIP_TABLE: set it to/);
});
