/** One S3 connection gives 80 to 100 MB/s: https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html */
export const RANGES_AT_ONCE = 8;
