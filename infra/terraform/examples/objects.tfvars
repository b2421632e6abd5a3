# Objects of S3 in ECR, each hour, and no repositories beside.
source_region       = "us-east-1"
project_name        = "s3-to-ecr-backup"
worker_image        = "ghcr.io/owner/transship:0.1.0"
create_repositories = false
s3_bucket_name      = "my-test-bucket"
s3_prefix_filter    = ""
ecr_repository_name = "s3-backup-repo"
schedule_expression = "rate(1 hour)"
