# Where

variable "source_region" {
  description = "The Region of the archives and repositories. Default: that of the provider."
  type        = string
  default     = null
}

variable "destination_region" {
  description = "The Region that ECR replicates the repositories to. Default: none."
  type        = string
  default     = ""
}

variable "secondary_region" {
  description = "A second Region that ECR replicates to. Default: none."
  type        = string
  default     = ""
}

variable "project_name" {
  description = "The start of every name: up to 20 small letters, digits and \"-\"."
  type        = string
  default     = "transship"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,19}$", var.project_name))
    error_message = "project_name is up to 20 small letters, digits and \"-\", and begins with a letter."
  }
}

variable "environment" {
  description = "The value of the tag Environment."
  type        = string
  default     = "production"
}

variable "default_tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}

# The templates, and the code of the functions

variable "templates_path" {
  description = "The folder that `npm run template:portable` wrote. Default: templates beside the module, where a release has them, else dist/portable of the checkout."
  type        = string
  default     = null
}

variable "asset_bucket" {
  description = "A bucket of the Region for templates and code. Default: the module creates one."
  type        = string
  default     = ""
}

# Workers

variable "worker_image" {
  description = "The worker's image, with a tag or a digest."
  type        = string
}

variable "worker_image_repository_arn" {
  description = "The ARN of the image's repository if it is a private one of ECR. Default: anyone may pull the image."
  type        = string
  default     = ""
}

variable "worker_architecture" {
  description = "ARM64 or X86_64."
  type        = string
  default     = "ARM64"
}

variable "worker_size" {
  description = "small, medium or large: 1, 2 or 4 vCPU with 2, 4 or 16 GiB."
  type        = string
  default     = "small"
}

variable "max_tasks" {
  description = "The most tasks that run at once."
  type        = number
  default     = 4
}

variable "planner_schedule" {
  description = "How often the planner looks at the schedules of the rules: rate(1 minute), or rate(5 minutes), 10 or 15."
  type        = string
  default     = "rate(5 minutes)"

  validation {
    condition     = can(regex("^rate\\((1 minute|(5|10|15) minutes)\\)$", var.planner_schedule))
    error_message = "planner_schedule is rate(1 minute), rate(5 minutes), rate(10 minutes) or rate(15 minutes)."
  }
}

variable "vpc_id" {
  description = "The VPC of the workers. Default: a VPC with public subnets is created."
  type        = string
  default     = ""
}

variable "subnet_ids" {
  description = "Subnets of that VPC: required with vpc_id."
  type        = list(string)
  default     = []
}

variable "vpc_cidr" {
  description = "The addresses of the VPC that is created: a range of /16 to /24."
  type        = string
  default     = "10.64.0.0/20"
}

variable "assign_public_ip" {
  description = "Whether tasks in those subnets get public addresses: required where they have no NAT gateway."
  type        = bool
  default     = false
}

# Backups

variable "schedule_expression" {
  description = "When the rules run, in UTC: rate(1 hour) or cron(0 2 * * ? *). A number of minutes divides 60, one of hours 24; days of the week have names."
  type        = string
  default     = "cron(0 2 * * ? *)"

  validation {
    condition = can(regex(
      "^(rate\\((1 minute|(2|3|4|5|6|10|12|15|20|30) minutes|1 hour|(2|3|4|6|8|12) hours|1 day)\\)|cron\\([0-9*/,-]+ [0-9*/,-]+ [0-9*/,?-]+ [0-9A-Z*/,-]+ ([A-Z,-]+|\\*|\\?) \\*\\))$",
      var.schedule_expression,
    ))
    error_message = "schedule_expression is rate(1 hour) or cron(0 2 * * ? *): a number of minutes divides 60, one of hours 24, days of the week have names, and the year is *."
  }
}

variable "read_repositories" {
  description = "The repositories of ECR that workers may read: a name or a pattern. Default: all below repository_prefix."
  type        = string
  default     = null
}

variable "write_repositories" {
  description = "The repositories that workers may write and create."
  type        = string
  default     = "restored/*"
}

variable "archive_bucket_name" {
  description = "The name of the archives' bucket. Default: CloudFormation chooses one."
  type        = string
  default     = ""
}

variable "archive_storage_class" {
  description = "The class of archives after 30 days: STANDARD or GLACIER_IR."
  type        = string
  default     = "STANDARD"
}

variable "keep_old_versions_days" {
  description = "Days that replaced and deleted archives are kept."
  type        = number
  default     = 90
}

variable "log_retention_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 90
}

# Objects of S3 in ECR

variable "s3_bucket_name" {
  description = "The bucket whose objects are published to ECR. Default: none."
  type        = string
  default     = ""
}

variable "s3_prefix_filter" {
  description = "Only its keys below this prefix."
  type        = string
  default     = ""
}

variable "ecr_repository_name" {
  description = "The repository that objects are published to: required with s3_bucket_name."
  type        = string
  default     = ""
}

# Repositories

variable "create_repositories" {
  description = "Whether to create a production and a testing repository, with their replication and roles. A registry has one replication configuration: an existing one is replaced."
  type        = bool
  default     = true
}

variable "repository_prefix" {
  description = "The start of the names of the repositories."
  type        = string
  default     = "enterprise-apps"
}

variable "production_image_retention_count" {
  description = "How many tagged images of production are kept."
  type        = number
  default     = 10
}

variable "testing_image_retention_count" {
  description = "How many tagged images of testing are kept. 0: testing_image_retention_days decides."
  type        = number
  default     = 5
}

variable "testing_image_retention_days" {
  description = "Days until an image of testing is deleted, if testing_image_retention_count is 0: ECR applies a number or an age."
  type        = number
  default     = 7
}

variable "untagged_image_retention_days" {
  description = "Days until an untagged image is deleted."
  type        = number
  default     = 1
}

variable "enable_replication" {
  description = "Whether ECR replicates the repositories to destination_region and secondary_region, if these are given."
  type        = bool
  default     = true
}

variable "enable_image_scanning" {
  description = "Whether ECR scans images when they are pushed."
  type        = bool
  default     = true
}

variable "create_iam_roles" {
  description = "Whether to create roles that pull from production and push to both repositories, for pull_principal_arn and push_principal_arn."
  type        = bool
  default     = true
}

variable "pull_principal_arn" {
  description = "The ARN that may assume the role that pulls from production. Default: no such role."
  type        = string
  default     = ""
}

variable "push_principal_arn" {
  description = "The ARN that may assume the role that pushes to both repositories. Default: no such role."
  type        = string
  default     = ""
}

# Watching

variable "enable_monitoring" {
  description = "Whether to create alarms, a topic and a dashboard."
  type        = bool
  default     = true
}

variable "enable_sns_notifications" {
  description = "Whether notification_email gets mail about alarms."
  type        = bool
  default     = true
}

variable "notification_email" {
  description = "The address that gets mail about alarms, which it has to confirm once. Default: none."
  type        = string
  default     = ""
}
