"""`spec.artifactStore`: where a model's source and artifacts are kept."""

from pydantic import ConfigDict, Field

from .fields import ApiModel, RelativePath
from .schema import one_of_member, remedy, rule


class S3Store(ApiModel):
    """An S3 bucket for sources and compiled artifacts."""

    bucket: str = Field(
        min_length=3,
        max_length=63,
        pattern=r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$",
        json_schema_extra=remedy(
            "spec.artifactStore.s3.bucket must be a bucket's name alone (lower case, digits, dots and hyphens), "
            "for example my-neuron-artifacts; a folder in it goes to spec.artifactStore.s3.prefix"
        ),
    )
    """Name of the bucket."""

    prefix: RelativePath = Field(
        default="",
        max_length=256,
        pattern=r"^([A-Za-z0-9!_.*()-]+(/[A-Za-z0-9!_.*()-]+)*/?)?$",
        json_schema_extra=remedy(
            "spec.artifactStore.s3.prefix must be a key prefix without a leading slash, for example teams/ml"
        )
        | rule(
            "!self.contains('..')", "spec.artifactStore.s3.prefix must not contain '..'; write the plain key prefix"
        ),
    )
    """Key prefix below which everything is stored."""

    region: str | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        pattern=r"^[a-z]{2,}(-[a-z]+)+-[0-9]+$",
        json_schema_extra=remedy("spec.artifactStore.s3.region must be an AWS region, for example eu-central-1"),
    )
    """Region of the bucket. The platform's region when absent."""


class ArtifactStore(ApiModel):
    """Where sources and compiled artifacts are kept."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "has(self.s3)",
            "spec.artifactStore needs exactly one store; set spec.artifactStore.s3.bucket, "
            "or leave spec.artifactStore out for the platform's default",
        )
    )

    s3: S3Store = Field(json_schema_extra=one_of_member())
    """An S3 bucket."""
