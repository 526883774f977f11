"""AWS over real HTTP: how ministack is run as a process of its own whose objects outlive it, and a bucket in it.

It checks no credentials here; clients need some all the same, because boto3 signs every request.
"""

from __future__ import annotations

import http.client
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from neuron_localcluster.errors import ClusterError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ADDRESS = "127.0.0.1"
REGION = "us-east-1"
SERVICES = ("s3", "cloudwatch", "iam", "sts")
# Well-known keys of a service that takes any.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}


def command() -> tuple[str, ...]:
    """The command line; all else is in the environment."""
    return (sys.executable, "-m", "neuron_localcluster.standins.ministack_server")


def environment(folder: Path, port: int) -> Mapping[str, str]:
    """What to add to the environment of `command`; makes the folders that it names.

    Objects are written below `folder` when they are put, the other services' state when the process ends.
    """
    objects, state, scratch = folder / "s3", folder / "state", folder / "tmp"
    for path in (objects, state, scratch):
        path.mkdir(parents=True, exist_ok=True)
    return {
        "BIND_HOST": ADDRESS,
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": ADDRESS,
        "MINISTACK_REGION": REGION,
        "SERVICES": ",".join(SERVICES),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(objects),
        "PERSIST_STATE": "1",
        "STATE_DIR": str(state),
        # Its pid file goes here and not among everybody's.
        "TMPDIR": str(scratch),
        "SFTP_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
    }


def is_ready(port: int) -> bool:
    """Whether it answers on that port."""
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=2.0)
    try:
        connection.request("GET", "/_ministack/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def s3_client(endpoint: str) -> S3Client:
    """A client of the S3 at that endpoint, whatever the caller's own AWS configuration says."""
    # Takes a second to import, which starting and ending a cluster should not wait for.
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )


def ensure_bucket(endpoint: str, name: str) -> None:
    """Create the bucket if it is not there. Raises ClusterError, for example for a name that S3 does not take."""
    s3 = s3_client(endpoint)
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        s3.create_bucket(Bucket=name)
    except s3.exceptions.BucketAlreadyOwnedByYou:
        return
    except (BotoCoreError, ClientError) as error:
        raise ClusterError(f"bucket {name} at {endpoint}: {error}") from error
    finally:
        s3.close()
