// What a deployment costs: the assumptions, prices and formulas of docs/deployment.md, which test/infra/documents.test.ts compares with these.

/** In US dollars, list prices of 2026 in us-east-1. docs/deployment.md describes each. */
export const PRICES = {
  s3_gb: 0.023,
  s3_cold: 0.004,
  s3_put: 0.005,
  s3_get: 0.0004,
  cold_put: 0.02,
  vcpu_hour: 0.03238,
  gib_hour: 0.00356,
  disk_hour: 0.000_111,
  spot: 0.3,
  nat_hour: 0.045,
  endpoint_hour: 0.01,
  address_hour: 0.005,
  lambda_second: 0.000_013_333_4,
  metric: 0.3,
  alarm_metric: 0.1,
  dashboard: 3,
  log_gb: 0.53,
  key: 1,
  writes: 0.625,
  backup_gb: 0.05,
  transfer_gb: 0.02,
  restore_gb: 0.02,
  event: 1,
} as const;

/** What is assumed where neither settings nor an inventory have a value: the smallest size of docs/deployment.md. */
export const ASSUMED = {
  repositories: 10,
  images: 20,
  image_gib: 0.5,
  changes: 0.5,
  months: 12,
  old_months: 3,
  rules: 2,
  wakeups: 5,
  busy: 0.05,
  first: 1,
  vcpu: 1,
  memory_gib: 2,
  large_share: 0.2,
  large_vcpu: 4,
  large_memory_gib: 16,
  large_disk_gib: 200,
  zones: 2,
  endpoints: 4,
  nat: 1,
  passes: 8640,
  keys: 1,
  backup_days: 35,
  copy_days: 90,
  tests: 4.3,
} as const;

export type Assumption = keyof typeof ASSUMED;

/** What is known better than it is assumed. */
export type Assumptions = Readonly<Partial<Record<Assumption, number>>>;

export function isAssumption(name: string): name is Assumption {
  return Object.hasOwn(ASSUMED, name);
}

/** In the order in which they are computed: each uses prices, assumptions and those before it. */
export const FORMULAS = {
  begun: 'repositories * images * image_gib',
  copies: 'repositories * changes * 30',
  copied: 'copies * image_gib',
  stored: 'begun + copied * 0.9 * months',
  replaced: 'copied * 0.1 * old_months',
  left: 'copied * old_months',
  life: 'images / (changes * 0.9)',
  hours: 'copied * 1024 / 60 / 3600 + wakeups * 30 * 0.1',
  large_hours: 'copied * large_share * 1024 / 60 / 3600 + 30 * 0.1',
  metrics: '6 + 2 * rules + (15 + 14 * rules + 25) * busy',

  archives: '(stored + replaced) * s3_gb',
  requests: '(copied * 128 + copies * 16) * s3_put / 1000',
  tasks: 'hours * (vcpu * vcpu_hour + memory_gib * gib_hour) * (first + (1 - first) * spot)',
  planner: '(passes * 2 + repositories * 0.5 * 30) * lambda_second',
  table: '(copies * 10 + passes * rules) * writes / 1000000',
  logs: '(0.1 + copies * 10 / 1000000 + passes * rules * 500 / 1000000000) * log_gb',
  watching: 'metrics * metric + (40 + rules) * alarm_metric + dashboard + keys * key',
  sum: 'archives + requests + tasks + planner + table + logs + watching',
  public: 'sum + hours * address_hour',
  closed: 'sum + 730 * endpoints * zones * endpoint_hour',
  own: 'closed + 730 * nat * (nat_hour + address_hour)',

  growth: 'copied * 0.9 * s3_gb',
  year_1: '(begun + copied * 0.9 * 12 + replaced) * s3_gb',
  year_2: '(begun + copied * 0.9 * 24 + replaced) * s3_gb',
  year_3: '(begun + copied * 0.9 * 36 + replaced) * s3_gb',
  steady: '(begun + left) * s3_gb',
  pruned: 'archives - steady',
  pruned_30: 'archives - (begun + copied) * s3_gb',
  cleaner: '(2880 * 2 + repositories * 30) * lambda_second + 5 * alarm_metric',
  large:
    'large_hours * (large_vcpu * vcpu_hour + large_memory_gib * gib_hour + (large_disk_gib - 20) * disk_hour) + 9 * alarm_metric',
  pulls: 'repositories * alarm_metric',
  cold: '(stored - copied) * (s3_gb - s3_cold) - copies * cold_put / 1000',
  cold_early: 'copied * 0.9 * (90 - life) / 30 * s3_cold',
  vault:
    '(2 * (stored + replaced) + copied * 0.1 * (backup_days + copy_days) / 30) * backup_gb + copied * transfer_gb + 2 * key',
  vault_steady:
    '(2 * (begun + left) + copied * (backup_days + copy_days) / 30) * backup_gb + copied * transfer_gb + 2 * key',
  vault_requests: '(copied * 128 + copies * 16) * s3_get / 1000 + copies * 2 * event / 1000000',
  restore_test: '(stored * (restore_gb + s3_gb / 30) + 2700 * lambda_second) * tests',
  restore_steady: '(begun * (restore_gb + s3_gb / 30) + 2700 * lambda_second) * tests',
} as const;

export type CostName = keyof typeof FORMULAS;
