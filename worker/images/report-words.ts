// How a report writes numbers, sizes and times.

export function ageOf(goodAt: string | undefined, madeAt: string): string {
  if (goodAt === undefined) return 'never';
  const hours = Math.max(0, (Date.parse(madeAt) - Date.parse(goodAt)) / 3_600_000);
  if (hours < 48) return count(Math.floor(hours), 'hour');
  return count(Math.floor(hours / 24), 'day');
}

export function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString('en')} ${number === 1 ? one : many}`;
}

export function percent(share: number): string {
  // never 100 % of what is not all
  return `${share === 1 ? 100 : Math.min(99.9, Math.round(share * 1000) / 10)} %`;
}

export function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  const unit = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  const shown = value / 1024 ** unit;
  return `${unit === 0 ? Math.round(shown) : shown.toFixed(shown < 10 ? 2 : 1)} ${units[unit]}`;
}

export function timeOf(iso: string): string {
  return `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC`;
}

/** A coordinate with two digits after the point, which is all that a screen shows. */
export function round(value: number): string {
  return String(Math.round(value * 100) / 100);
}
