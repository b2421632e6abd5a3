terraform {
  required_version = ">= 1.5"

  required_providers {
    # a resource names its Region since 6.0
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0"
    }
  }
}
