import type { Operation } from '../transport/layer.ts';

/** The IAM actions of each operation: https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html */
export const ACTIONS: Readonly<Record<Operation, string>> = {
  'read-manifest': 'ecr:BatchGetImage',
  'read-blob': 'ecr:GetDownloadUrlForLayer',
  'find-blob': 'ecr:BatchCheckLayerAvailability',
  'begin-upload': 'ecr:InitiateLayerUpload',
  'mount-blob': 'ecr:InitiateLayerUpload here and ecr:GetDownloadUrlForLayer there',
  'upload-blob': 'ecr:UploadLayerPart and ecr:CompleteLayerUpload',
  'write-manifest': 'ecr:PutImage',
  'delete-manifest': 'ecr:BatchDeleteImage',
  'list-tags': 'ecr:ListImages',
  'list-repositories': 'ecr:DescribeRepositories',
  'sign-in': 'ecr:GetAuthorizationToken',
};
