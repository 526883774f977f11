"""From what a document says to the source that it names."""

from collections.abc import Mapping
from pathlib import Path

from neuron_runtime.contract.inspection import HuggingFaceRevision
from neuron_runtime.contract.launch import SOURCE_DIR_VARIABLE
from neuron_runtime.contract.origin import HuggingFaceOrigin, S3Origin, SecretKey, VolumeOrigin
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode

from .base import Source
from .hub_client import Patience
from .hugging_face import HuggingFaceSource
from .token import read_token


def open_source(
    origin: HuggingFaceOrigin | HuggingFaceRevision | S3Origin | VolumeOrigin,
    secret: SecretKey | None,
    environment: Mapping[str, str],
    cache: Path,
    patience: Patience,
) -> Source:
    """The source that `origin` names. `cache` is a folder for a library's own files.

    Raises ContainerFailure: SOURCE_TOKEN_MISSING, SOURCE_NOT_FOUND, SOURCE_UNSAFE, INVALID_SPEC, or what makes a client
    impossible.
    """
    if isinstance(origin, HuggingFaceOrigin | HuggingFaceRevision):
        token = read_token(environment, secret)
        revision = origin.commit if isinstance(origin, HuggingFaceOrigin) else origin.revision
        return HuggingFaceSource(origin.repo, revision, origin.endpoint, token, secret, cache, patience)
    if isinstance(origin, S3Origin):
        # Here, for reading a hub needs no boto3.
        from .s3 import S3Source

        return S3Source(origin)
    from .volume import VolumeSource

    mount = environment.get(SOURCE_DIR_VARIABLE)
    if not mount:
        raise ContainerFailure(FailureCode.INVALID_SPEC, f"{SOURCE_DIR_VARIABLE} is not set, but a claim is to be read")
    return VolumeSource(origin, Path(mount))
