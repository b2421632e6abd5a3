# Deploys Transship by its portable CloudFormation templates. docs/deployment.md describes what they create.

data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  region   = coalesce(var.source_region, data.aws_region.current.region)
  registry = "${data.aws_caller_identity.current.account_id}.dkr.ecr.${local.region}.${data.aws_partition.current.dns_suffix}"
  tags     = merge({ Environment = var.environment, Project = var.project_name }, var.default_tags)

  # a release has the templates next to the module
  beside    = fileexists("${path.module}/templates/Transship.yaml") ? "${path.module}/templates" : "${path.module}/../../dist/portable"
  templates = coalesce(var.templates_path, local.beside)
  assets    = fileset("${local.templates}/assets", "*.zip")
  # the key contains a hash: a changed template is another object
  template_key = "templates/${filesha256("${local.templates}/Transship.yaml")}.yaml"

  asset_bucket      = var.asset_bucket != "" ? var.asset_bucket : aws_s3_bucket.assets[0].id
  destinations      = var.enable_replication ? [var.destination_region, var.secondary_region] : ["", ""]
  replica_regions   = var.create_repositories ? toset(compact(local.destinations)) : toset([])
  read_repositories = var.read_repositories != null ? var.read_repositories : "${var.repository_prefix}/*"
  # a prefix of keys ends in a slash
  s3_prefix = var.s3_prefix_filter == "" ? "" : "${trimsuffix(var.s3_prefix_filter, "/")}/"
}

resource "aws_s3_bucket" "assets" {
  count = var.asset_bucket == "" ? 1 : 0

  region        = local.region
  bucket_prefix = "${var.project_name}-assets-"
  force_destroy = true
  tags          = local.tags
}

resource "aws_s3_bucket_public_access_block" "assets" {
  count = var.asset_bucket == "" ? 1 : 0

  region                  = local.region
  bucket                  = aws_s3_bucket.assets[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_object" "assets" {
  for_each = local.assets

  region = local.region
  bucket = local.asset_bucket
  key    = "assets/${each.value}"
  source = "${local.templates}/assets/${each.value}"

  # old code is deleted after the stack has the new one: CloudFormation needs it to roll an update back
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_s3_object" "template" {
  region = local.region
  bucket = local.asset_bucket
  key    = local.template_key
  source = "${local.templates}/Transship.yaml"
}

resource "aws_cloudformation_stack" "transship" {
  region       = local.region
  name         = var.project_name
  template_url = "https://${local.asset_bucket}.s3.${local.region}.${data.aws_partition.current.dns_suffix}/${local.template_key}"
  capabilities = ["CAPABILITY_NAMED_IAM"]
  tags         = local.tags

  parameters = {
    Prefix                   = var.project_name
    AssetBucket              = local.asset_bucket
    AssetPrefix              = "assets/"
    WorkerImage              = var.worker_image
    WorkerImageRepositoryArn = var.worker_image_repository_arn
    WorkerArchitecture       = var.worker_architecture
    WorkerSize               = var.worker_size
    MaxTasks                 = tostring(var.max_tasks)
    PlannerSchedule          = var.planner_schedule
    ReadRepositories         = local.read_repositories
    WriteRepositories        = var.write_repositories
    PublishBucket            = var.s3_bucket_name
    PublishPrefix            = local.s3_prefix
    PublishRepository        = var.ecr_repository_name
    BucketName               = var.archive_bucket_name
    StorageClass             = var.archive_storage_class
    KeepOldVersionsDays      = tostring(var.keep_old_versions_days)
    LogRetentionDays         = tostring(var.log_retention_days)
    VpcId                    = var.vpc_id
    SubnetIds                = join(",", var.subnet_ids)
    VpcCidr                  = var.vpc_cidr
    PublicAddresses          = var.assign_public_ip ? "ENABLED" : "DISABLED"
    EnableMonitoring         = tostring(var.enable_monitoring)
    NotificationEmail        = var.enable_sns_notifications ? var.notification_email : ""
  }

  depends_on = [aws_s3_object.assets, aws_s3_object.template, aws_s3_bucket_public_access_block.assets]

  # here and not with the variables, which only Terraform 1.9 and newer can compare with each other
  lifecycle {
    precondition {
      condition     = var.secondary_region == "" || var.destination_region != ""
      error_message = "secondary_region needs destination_region."
    }
    precondition {
      condition     = (var.vpc_id == "") == (length(var.subnet_ids) == 0)
      error_message = "vpc_id and subnet_ids are given together."
    }
    precondition {
      condition     = (var.s3_bucket_name == "") == (var.ecr_repository_name == "")
      error_message = "s3_bucket_name and ecr_repository_name are given together."
    }
    precondition {
      condition     = length(local.assets) > 0
      error_message = "templates_path has no assets: npm run template:portable writes them."
    }
  }
}

resource "aws_cloudformation_stack" "replicas" {
  for_each = local.replica_regions

  region        = each.value
  name          = "${var.project_name}-replicas"
  template_body = file("${local.templates}/TransshipReplicas.yaml")
  capabilities  = ["CAPABILITY_NAMED_IAM", "CAPABILITY_IAM"]
  tags          = local.tags

  parameters = {
    RepositoryPrefix   = var.repository_prefix
    ProductionKeepLast = tostring(var.production_image_retention_count)
    UntaggedAfterDays  = tostring(var.untagged_image_retention_days)
    HomeRegion         = local.region
  }
}

resource "aws_cloudformation_stack" "registries" {
  count = var.create_repositories ? 1 : 0

  region        = local.region
  name          = "${var.project_name}-registries"
  template_body = file("${local.templates}/TransshipRegistries.yaml")
  capabilities  = ["CAPABILITY_NAMED_IAM", "CAPABILITY_IAM"]
  tags          = local.tags

  parameters = {
    RepositoryPrefix       = var.repository_prefix
    ProductionKeepLast     = tostring(var.production_image_retention_count)
    TestingKeepLast        = tostring(var.testing_image_retention_count)
    TestingExpireAfterDays = tostring(var.testing_image_retention_days)
    UntaggedAfterDays      = tostring(var.untagged_image_retention_days)
    ScanOnPush             = tostring(var.enable_image_scanning)
    DestinationRegion      = local.destinations[0]
    SecondaryRegion        = local.destinations[1]
    PullPrincipalArn       = var.create_iam_roles ? var.pull_principal_arn : ""
    PushPrincipalArn       = var.create_iam_roles ? var.push_principal_arn : ""
  }

  # a repository that ECR creates before its template exists stays without it
  depends_on = [aws_cloudformation_stack.replicas]
}
