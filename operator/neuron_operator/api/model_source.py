"""`spec.model`: where the model comes from, one of four kinds, and the name that clients ask for."""

from pydantic import ConfigDict, Field, model_validator

from neuron_runtime.contract.digests import Digest
from neuron_runtime.contract.request import Task

from .fields import ApiModel, RelativePath
from .schema import remedy, rule

_KINDS = ("hugging_face", "s3", "persistent_volume_claim", "compiled_artifact")
_ONE_OF = (
    "spec.model needs exactly one source; set one of spec.model.huggingFace, spec.model.s3, "
    "spec.model.persistentVolumeClaim and spec.model.compiledArtifact, for example spec.model.huggingFace.repo to a "
    "repository id like HuggingFaceTB/SmolLM2-135M-Instruct"
)
_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_BUCKET = r"[a-z0-9][a-z0-9.-]*[a-z0-9]"
_KEY_PART = r"[A-Za-z0-9!_.*()-]+"


def _no_parent(field: str) -> dict[str, object]:
    return rule("!self.contains('..')", f"{field} must not contain '..'; write the plain path")


class TokenSecretReference(ApiModel):
    """One key of a Secret in the model's namespace."""

    name: str = Field(
        min_length=1,
        max_length=253,
        pattern=f"^{_SUBDOMAIN}$",
        json_schema_extra=remedy(
            "spec.model.huggingFace.tokenSecretRef.name must be the name of a Secret in the model's namespace, "
            "for example hugging-face"
        ),
    )
    """Name of the Secret."""

    key: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[-._a-zA-Z0-9]+$",
        json_schema_extra=remedy(
            "spec.model.huggingFace.tokenSecretRef.key must be a key of the Secret, for example token"
        ),
    )
    """Key in the Secret."""


class HuggingFaceSource(ApiModel):
    """A repository of a Hugging Face hub."""

    repo: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$",
        json_schema_extra=remedy(
            "spec.model.huggingFace.repo must be the repository's id on the hub without a host name, "
            "for example HuggingFaceTB/SmolLM2-135M-Instruct"
        ),
    )
    """Repository id, for example HuggingFaceTB/SmolLM2-135M-Instruct."""

    revision: RelativePath = Field(
        default="main",
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        json_schema_extra=remedy(
            "spec.model.huggingFace.revision must be a branch, a tag or a commit, for example main"
        )
        | rule(
            "!self.contains('..')",
            "spec.model.huggingFace.revision must not contain '..'; name a branch, tag or commit",
        ),
    )
    """Branch, tag or commit. A branch or tag is pinned to the commit that it names when a revision is made."""

    endpoint: str | None = Field(
        default=None,
        min_length=8,
        max_length=253,
        pattern=r"^https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._-]+)*$",
        json_schema_extra=remedy(
            "spec.model.huggingFace.endpoint must be the hub's address without a slash at its end, "
            "for example https://hub.example.com"
        ),
    )
    """Address of another hub, which pods read with the compile ServiceAccount. The platform's hub when absent."""

    token_secret_ref: TokenSecretReference | None = None
    """Token for a gated or private repository. Only pods that inspect and compile see it, never the operator."""


class S3Source(ApiModel):
    """A folder of an S3 bucket that holds a model in the form of transformers."""

    uri: RelativePath = Field(
        min_length=8,
        max_length=512,
        pattern=rf"^s3://{_BUCKET}(/{_KEY_PART})*/?$",
        json_schema_extra=remedy(
            "spec.model.s3.uri must be s3://, a bucket and the folder of the model, "
            "for example s3://my-models/llama-3-8b"
        )
        | _no_parent("spec.model.s3.uri"),
    )
    """Bucket and folder, for example s3://my-models/llama-3-8b. The files that lie there when a revision is made are
    what it stands for."""

    region: str | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        pattern=r"^[a-z]{2,}(-[a-z]+)+-[0-9]+$",
        json_schema_extra=remedy("spec.model.s3.region must be an AWS region, for example eu-central-1"),
    )
    """Region of the bucket. That of the compile pods when absent."""


class PersistentVolumeClaimSource(ApiModel):
    """A folder of a volume that holds a model in the form of transformers."""

    claim_name: str = Field(
        min_length=1,
        max_length=253,
        pattern=f"^{_SUBDOMAIN}$",
        json_schema_extra=remedy(
            "spec.model.persistentVolumeClaim.claimName must be the name of a claim in the model's namespace, "
            "for example models"
        ),
    )
    """Name of the claim. Only pods that inspect and compile mount it, and only to read."""

    path: RelativePath = Field(
        default="",
        max_length=512,
        pattern=r"^([A-Za-z0-9!_.*()-]+(/[A-Za-z0-9!_.*()-]+)*/?)?$",
        json_schema_extra=remedy(
            "spec.model.persistentVolumeClaim.path must be a folder of the claim without a leading slash, "
            "for example llama-3-8b"
        )
        | _no_parent("spec.model.persistentVolumeClaim.path"),
    )
    """Folder in the claim, relative. Its root when absent."""


class CompiledArtifactSource(ApiModel):
    """An artifact that was compiled elsewhere, for example in another cluster, with its source beside it in the store.

    Nothing is compiled: shapes, dtype and quantization are the artifact's own.
    """

    model_config = ConfigDict(
        json_schema_extra=rule(
            "size(self.digest) < 71 || self.uri.contains(self.digest.substring(7))",
            "spec.model.compiledArtifact.uri must end with the digits of spec.model.compiledArtifact.digest; copy both "
            "from status.artifact of the model that compiled it",
        )
    )

    uri: RelativePath = Field(
        min_length=8,
        max_length=512,
        pattern=rf"^s3://{_BUCKET}(/{_KEY_PART})*/(shared|ns/[a-z0-9-]+)/artifacts/[0-9a-f]{{64}}/?$",
        json_schema_extra=remedy(
            "spec.model.compiledArtifact.uri must be what status.artifact.uri says where the artifact was compiled, "
            "s3://<bucket>/.../artifacts/<64 hexadecimal digits>"
        )
        | _no_parent("spec.model.compiledArtifact.uri"),
    )
    """Where the artifact lies, as `status.artifact.uri` says where it was compiled."""

    digest: Digest = Field(
        max_length=71,
        json_schema_extra=remedy(
            "spec.model.compiledArtifact.digest must be what status.artifact.digest says where the artifact was "
            "compiled, sha256:<64 hexadecimal digits>"
        ),
    )
    """Digest of the artifact, as `status.artifact.digest` says. What lies at the address must have it."""


class ModelSource(ApiModel):
    """Where the model comes from, and the name that clients ask for."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "[has(self.huggingFace), has(self.s3), has(self.persistentVolumeClaim), has(self.compiledArtifact)]"
            ".filter(given, given).size() == 1",
            _ONE_OF,
        )
    )

    hugging_face: HuggingFaceSource | None = None
    """A repository of a Hugging Face hub."""

    s3: S3Source | None = None
    """A folder of an S3 bucket."""

    persistent_volume_claim: PersistentVolumeClaimSource | None = None
    """A folder of a volume."""

    compiled_artifact: CompiledArtifactSource | None = None
    """An artifact that was compiled elsewhere."""

    allow_pickle: bool = False
    """Whether pickled weights (pytorch_model*.bin) are taken where there are no safetensors. They are converted in the
    compile Job, by a reader that refuses everything but tensors; to allow it means to trust whoever made them all the
    same."""

    served_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$",
        json_schema_extra=remedy(
            "spec.model.servedName must start with a letter or digit and hold letters, digits and . _ : / - only, "
            "for example my-model"
        ),
    )
    """Value of `model` in requests to the endpoint. The object's name when absent."""

    task: Task = Task.TEXT_GENERATION
    """What the model is asked for: TextGeneration for chats and completions, Embedding for vectors of texts."""

    @model_validator(mode="after")
    def _has_one_source(self) -> "ModelSource":
        if sum(getattr(self, kind) is not None for kind in _KINDS) != 1:
            raise ValueError(_ONE_OF)
        return self
