output "rules" {
  description = "The first rules: terraform output -raw rules > rules.yaml && npx transship apply -f rules.yaml"
  value       = yamlencode({ version = 1, rules = local.rules })
}

output "environment" {
  description = "Sets the variables that the commands of transship need: eval \"$(terraform output -raw environment)\""
  value       = aws_cloudformation_stack.transship.outputs["Check1Environment"]
}

output "validation_commands" {
  description = "The commands that check the deployment, in their order."
  value = join("\n", [
    for name in sort(keys(aws_cloudformation_stack.transship.outputs)) :
    aws_cloudformation_stack.transship.outputs[name] if startswith(name, "Check")
  ])
}

output "archive_bucket_name" {
  description = "The bucket of the archives."
  value       = aws_cloudformation_stack.transship.outputs["BucketOfArchives"]
}

output "planner_logs_command" {
  description = "Follows the logs of the planner."
  value       = aws_cloudformation_stack.transship.outputs["LogsOfPlanner"]
}

output "worker_logs_command" {
  description = "Follows the logs of the workers."
  value       = aws_cloudformation_stack.transship.outputs["LogsOfWorkers"]
}

output "cloudwatch_dashboard_name" {
  description = "The dashboard. Null without enable_monitoring."
  value       = try(aws_cloudformation_stack.transship.outputs["DashboardName"], null)
}

output "replication_failure_alarm_name" {
  description = "The alarm about failed replication. Null without enable_monitoring."
  value       = var.enable_monitoring ? "${var.project_name}-replication-failures" : null
}

output "production_repository_name" {
  description = "The repository for production. Null without create_repositories, like the outputs below."
  value       = try(aws_cloudformation_stack.registries[0].outputs["ProductionRepositoryName"], null)
}

output "production_repository_uri" {
  description = "Where it is pulled from."
  value       = try(aws_cloudformation_stack.registries[0].outputs["ProductionRepositoryUri"], null)
}

output "testing_repository_name" {
  description = "The repository for testing."
  value       = try(aws_cloudformation_stack.registries[0].outputs["TestingRepositoryName"], null)
}

output "testing_repository_uri" {
  description = "Where it is pulled from."
  value       = try(aws_cloudformation_stack.registries[0].outputs["TestingRepositoryUri"], null)
}

output "pull_role_arn" {
  description = "The role that pulls from production. Null without pull_principal_arn."
  value       = try(aws_cloudformation_stack.registries[0].outputs["PullRoleArn"], null)
}

output "push_role_arn" {
  description = "The role that pushes to both repositories. Null without push_principal_arn."
  value       = try(aws_cloudformation_stack.registries[0].outputs["PushRoleArn"], null)
}

output "replication_validation_commands" {
  description = "Commands that show what was replicated and where."
  value = join("\n", concat(
    try([aws_cloudformation_stack.registries[0].outputs["CheckReplication"]], []),
    [
      for region in sort(local.replica_regions) :
      "aws ecr describe-images --region ${region} --repository-name ${var.repository_prefix}/production"
    ],
  ))
}
