# Copy it beside the module's call. Every variable is in variables.tf.
source_region      = "us-east-1"
destination_region = "us-west-2"
secondary_region   = "eu-west-1"

project_name = "transship"
environment  = "production"

# the image that docker/ builds, in a repository of yours
worker_image                = "111111111111.dkr.ecr.us-east-1.amazonaws.com/transship/worker:0.1.0"
worker_image_repository_arn = "arn:aws:ecr:us-east-1:111111111111:repository/transship/worker"

# backups of every image below the prefix, each night
repository_prefix   = "my-company-apps"
schedule_expression = "cron(0 2 * * ? *)"

production_image_retention_count = 15
testing_image_retention_count    = 8
untagged_image_retention_days    = 2

enable_monitoring        = true
enable_sns_notifications = true
notification_email       = "operators@example.com"

default_tags = {
  Team       = "DevOps"
  CostCenter = "Engineering"
}
