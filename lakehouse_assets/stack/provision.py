"""Makes the stack's bucket, the user whose policy lets it use that bucket only, Polaris's catalog and Dagster's home.

Doing it again changes nothing.

    python -m lakehouse_assets.stack.provision        # what docker-compose.yaml runs once at each start

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

from lakehouse_assets.orchestration.instance import terminal_instance
from lakehouse_assets.settings import Settings, load_settings

POLICY = "lakehouse-jobs"
_SECONDS = 60


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


def make_catalog(settings: Settings) -> None:
    """Make the catalog `LAKEHOUSE_CATALOG_NAME` in Polaris, over the warehouse, if there is none.

    Raises:
        requests.HTTPError: Polaris does not take the credential or the catalog.
    """
    import requests

    client, _, secret = settings.catalog_credential.get_secret_value().partition(":")
    grant = {"grant_type": "client_credentials", "scope": "PRINCIPAL_ROLE:ALL"}
    login = requests.post(
        f"{settings.catalog_uri}/v1/oauth/tokens",
        data=grant | {"client_id": client, "client_secret": secret},
        timeout=_SECONDS,
    )
    login.raise_for_status()
    wanted: dict[str, Any] = {
        "name": settings.catalog_name,
        "type": "INTERNAL",
        "properties": {"default-base-location": settings.warehouse_uri},
        "storageConfigInfo": {
            "storageType": "S3",
            "allowedLocations": [settings.warehouse_uri],
            "endpoint": settings.s3_endpoint,
            "region": settings.s3_region,
            "pathStyleAccess": True,
            "stsUnavailable": True,  # Spark and PyIceberg bring the lakehouse's own keys
        },
    }
    made = requests.post(
        f"{settings.catalog_uri.removesuffix('/catalog')}/management/v1/catalogs",
        json={"catalog": wanted},
        headers={"Authorization": f"Bearer {login.json()['access_token']}"},
        timeout=_SECONDS,
    )
    if made.status_code != requests.codes.conflict:  # it is there already
        made.raise_for_status()


def main() -> int:
    """Provision what the environment names."""
    given = os.environ
    administrator = ("S3_ENDPOINT", "S3_BUCKET", "S3_ROOT_USER", "S3_ROOT_PASSWORD")
    names = (*administrator, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    missing = [name for name in names if not given.get(name)]
    if missing:
        print(f"provision: {' and '.join(missing)} must be set", file=sys.stderr)
        return 1
    root = {"AWS_ACCESS_KEY_ID": given["S3_ROOT_USER"], "AWS_SECRET_ACCESS_KEY": given["S3_ROOT_PASSWORD"]}
    provision(given["S3_ENDPOINT"], given.get("S3_REGION", "us-east-1"), given["S3_BUCKET"], root, given)
    settings = load_settings()
    if settings.catalog_name:
        make_catalog(settings)
    with terminal_instance(settings):  # Dagster's settings and tables, before its services ask for them at once
        pass
    print(f"provision: bucket {given['S3_BUCKET']}, its user, the catalog and {settings.dagster_path} are there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
