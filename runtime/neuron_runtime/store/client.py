"""S3 clients. Endpoint and credentials come from the environment as boto3 takes them (`AWS_ENDPOINT_URL_S3`, Pod
Identity, IRSA).
"""

from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from .failures import STORE, Owner, store_failure

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_CONFIG = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 5},
    max_pool_connections=16,
    tcp_keepalive=True,
    user_agent_extra="neuron-runtime",
    # S3-compatible stores know no CRC trailers. What guards the content is the manifest's SHA-256.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)


def open_client(bucket: str, prefix: str, region: str | None, owner: Owner = STORE) -> "S3Client":
    """A client for a bucket. Raises ContainerFailure when none can be made."""
    try:
        client: S3Client = boto3.session.Session().client("s3", region_name=region, config=_CONFIG)
    except (BotoCoreError, ValueError) as error:
        raise store_failure(error, "get", bucket, prefix, owner) from error
    return client
