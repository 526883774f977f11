"""What S3 and botocore raise, as failures with a code of ours, each with the permission or setting to look at."""

from dataclasses import dataclass

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode

_DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "403", "Forbidden"})
_BAD_CREDENTIALS = frozenset(
    {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired"}
)
_ELSEWHERE = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
)
_ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})
_ACTIONS = {"put": "s3:PutObject", "get": "s3:GetObject", "list": "s3:ListBucket"}


@dataclass(frozen=True)
class Owner:
    """Whose bucket it is: the field of the spec that names it, and the codes of what goes wrong with it."""

    field: str
    denied: FailureCode
    not_found: FailureCode
    unreachable: FailureCode


STORE = Owner(
    "spec.artifactStore.s3",
    FailureCode.STORE_ACCESS_DENIED,
    FailureCode.STORE_BUCKET_NOT_FOUND,
    FailureCode.STORE_UNREACHABLE,
)
SOURCE = Owner(
    "spec.model.s3",
    FailureCode.SOURCE_ACCESS_DENIED,
    FailureCode.SOURCE_NOT_FOUND,
    FailureCode.SOURCE_UNREACHABLE,
)


def error_code(error: ClientError) -> str:
    """S3's code of an error; the HTTP status when the answer had no body to carry one."""
    return error.response.get("Error", {}).get("Code", "")


def is_absent(error: BaseException) -> bool:
    """Whether S3 said that the key (not the bucket) does not exist."""
    return isinstance(error, ClientError) and error_code(error) in _ABSENT


def store_failure(error: Exception, verb: str, bucket: str, key: str, owner: Owner = STORE) -> ContainerFailure:
    """The failure to raise for an error of botocore. `verb` is `get`, `put` or `list`."""
    uri = f"s3://{bucket}/{key}"
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return ContainerFailure(
            owner.denied,
            f"{verb} {uri}: no usable AWS credentials ({error}); associate an IAM role with the pod's ServiceAccount "
            "(EKS Pod Identity or IRSA)",
        )
    if isinstance(error, NoRegionError):
        return ContainerFailure(
            owner.unreachable,
            f"{verb} {uri}: no AWS region is known; set {owner.field}.region, or AWS_REGION for the platform",
        )
    if isinstance(error, ClientError):
        return _answered(error, verb, bucket, uri, owner)
    if isinstance(error, BotoCoreError):
        return ContainerFailure(owner.unreachable, f"{verb} {uri}: S3 cannot be reached: {error}")
    return ContainerFailure(owner.unreachable, f"{verb} {uri}: {type(error).__name__}: {error}")


def _answered(error: ClientError, verb: str, bucket: str, uri: str, owner: Owner) -> ContainerFailure:
    code = error_code(error)
    if code in _DENIED:
        return ContainerFailure(owner.denied, _denied(verb, bucket, uri))
    if code in _BAD_CREDENTIALS:
        return ContainerFailure(
            owner.denied,
            f"{verb} {uri}: S3 refused the credentials ({code}); check the IAM role of the pod's ServiceAccount",
        )
    if code == "NoSuchBucket":
        return ContainerFailure(
            owner.not_found,
            f"bucket {bucket} does not exist; check {owner.field}",
        )
    if code in _ELSEWHERE:
        return ContainerFailure(
            owner.not_found,
            f"bucket {bucket} is in another region ({code}); set {owner.field}.region to its own",
        )
    return ContainerFailure(owner.unreachable, f"{verb} {uri}: S3 answered {error}")


def _denied(verb: str, bucket: str, uri: str) -> str:
    message = f"{verb} {uri}: access denied; the role of the pod's ServiceAccount needs {_ACTIONS[verb]} on it"
    if verb == "get":
        message += (
            f". If the object may be absent: without s3:ListBucket on {bucket}, S3 answers 403 instead of 404 "
            "for a key that does not exist"
        )
    return message
