# The first rules, as a file that `transship apply -f` takes: schedules live in the rules and not in a resource.

locals {
  # cron of AWS has a year, and ? for a day that the other one decides
  cron_fields = can(regex("^cron", var.schedule_expression)) ? split(" ", replace(trimsuffix(trimprefix(var.schedule_expression, "cron("), ")"), "?", "*")) : []
  rate_fields = can(regex("^rate", var.schedule_expression)) ? split(" ", trimsuffix(trimprefix(var.schedule_expression, "rate("), ")")) : ["", ""]
  rate = {
    minute  = "* * * * *"
    minutes = "*/${local.rate_fields[0]} * * * *"
    hour    = "0 * * * *"
    hours   = "0 */${local.rate_fields[0]} * * *"
    day     = "0 0 * * *"
  }
  # of minutes, hours, days and months: rules have a range where AWS has the first number of a step
  last_of_field = ["59", "23", "31", "12", "SAT"]
  cron = join(" ", [
    for i, last in local.last_of_field : replace(local.cron_fields[i], "/(^|,)([0-9]+)[/]/", "$${1}$${2}-${last}/")
    if length(local.cron_fields) > 0
  ])
  schedule = length(local.cron_fields) > 0 ? local.cron : local.rate[local.rate_fields[1]]

  archives = try(aws_cloudformation_stack.transship.outputs["BucketOfArchives"], "")
  rules = concat(
    [
      {
        name     = "backup"
        backup   = { from = "${local.registry}/${local.read_repositories}", to = "s3://${local.archives}/" }
        schedule = local.schedule
      }
    ],
    [
      for bucket in compact([var.s3_bucket_name]) : {
        name     = "publish"
        publish  = { from = "s3://${bucket}/${local.s3_prefix}", to = "${local.registry}/${var.ecr_repository_name}" }
        schedule = local.schedule
      }
    ],
  )
}
