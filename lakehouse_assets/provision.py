"""Makes the stack's bucket and the user whose policy lets it use that bucket only; doing it again changes nothing.

    python -m lakehouse_assets.provision        # what docker-compose.yaml runs once at each start

The administrator's keys are only known here: `S3_ROOT_USER`, `S3_ROOT_PASSWORD`. MinIO and its kin share the API; for
AWS itself make the bucket and a role with `policy` by what you use there.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

POLICY = "lakehouse-jobs"


def policy(bucket: str) -> dict[str, Any]:
    """All the lakehouse needs, in one bucket: list it, and read, write and delete its objects."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"],
                "Resource": [f"arn:aws:s3:::{bucket}"],
            },
            {
                "Effect": "Allow",
                "Action": [
                    "s3:GetObject",
                    "s3:PutObject",
                    "s3:DeleteObject",
                    "s3:AbortMultipartUpload",
                    "s3:ListMultipartUploadParts",
                ],
                "Resource": [f"arn:aws:s3:::{bucket}/*"],
            },
        ],
    }


def provision(endpoint: str, region: str, bucket: str, root: Mapping[str, str], user: Mapping[str, str]) -> None:
    """Make the bucket, the policy and the user.

    Args:
        endpoint: address of the store.
        region: region of the bucket.
        bucket: its name.
        root: the administrator's `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
        user: those that the lakehouse's user is to have.
    """
    from minio import Minio, MinioAdmin
    from minio.credentials import StaticProvider

    address = urlsplit(endpoint)
    keys = StaticProvider(root["AWS_ACCESS_KEY_ID"], root["AWS_SECRET_ACCESS_KEY"])
    where: dict[str, Any] = {"secure": address.scheme == "https", "region": region, "credentials": keys}
    store = Minio(endpoint=address.netloc, **where)
    if not store.bucket_exists(bucket_name=bucket):
        store.make_bucket(bucket_name=bucket)
    admin = MinioAdmin(endpoint=address.netloc, **where)
    admin.policy_add(POLICY, policy=policy(bucket))
    admin.user_add(user["AWS_ACCESS_KEY_ID"], user["AWS_SECRET_ACCESS_KEY"])
    attached = json.loads(admin.user_info(user["AWS_ACCESS_KEY_ID"])).get("policyName", "")
    if POLICY not in attached.split(","):
        admin.attach_policy([POLICY], user=user["AWS_ACCESS_KEY_ID"])


def main() -> int:
    """Provision what the environment names."""
    given = os.environ
    names = ("S3_ENDPOINT", "S3_BUCKET", "S3_ROOT_USER", "S3_ROOT_PASSWORD")
    names += ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    missing = [name for name in names if not given.get(name)]
    if missing:
        print(f"provision: {' and '.join(missing)} must be set", file=sys.stderr)
        return 1
    root = {"AWS_ACCESS_KEY_ID": given["S3_ROOT_USER"], "AWS_SECRET_ACCESS_KEY": given["S3_ROOT_PASSWORD"]}
    provision(given["S3_ENDPOINT"], given.get("S3_REGION", "us-east-1"), given["S3_BUCKET"], root, given)
    print(f"provision: bucket {given['S3_BUCKET']} and its user are there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
