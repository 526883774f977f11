"""The catalogue: one entry for each failure that we can name."""

from dataclasses import dataclass
from enum import StrEnum

from neuron_runtime.contract.outcome import FailureCode


class RetryClass(StrEnum):
    """What trying again is worth, and whom the failure belongs to."""

    TRANSIENT = "Transient"
    """Try again with back-off; uses up no attempt."""
    BUG = "Bug"
    """Try again, within compile.retry.maxAttempts."""
    OWN = "Own"
    """This model's own source, quota or image: another model with the same inputs may succeed."""
    ACCESS = "Access"
    """Like Own, and somebody outside can mend it without a word to us: worth an attempt now and then."""
    SETTINGS = "Settings"
    """This model's spec.compile: the same inputs under other settings may succeed."""
    SPEC = "Spec"
    """The same inputs fail again: wait until the spec changes."""


@dataclass(frozen=True)
class Entry:
    """What stands on the resource for one failure code."""

    remedy: str
    retry: RetryClass
    serving: "Entry | None" = None
    """What holds instead when a server fails so, not a compile."""


TIMED_OUT = "TimedOut"
POD_NEVER_RAN = "PodNeverRan"
POD_LOST = "PodLost"
OUT_OF_MEMORY = FailureCode.OUT_OF_MEMORY.value
UNKNOWN = "Unknown"

CATALOGUE: dict[str, Entry] = {
    FailureCode.SOURCE_NOT_FOUND.value: Entry(
        "Check model.huggingFace (repo, revision; a private one needs tokenSecretRef), model.s3.uri or "
        "model.persistentVolumeClaim.path",
        RetryClass.ACCESS,
    ),
    FailureCode.SOURCE_ACCESS_DENIED.value: Entry(
        "Give model.huggingFace.tokenSecretRef a token that was granted access; for model.s3.uri grant the compile "
        "service account s3:ListBucket and s3:GetObject",
        RetryClass.ACCESS,
    ),
    FailureCode.SOURCE_TOKEN_MISSING.value: Entry(
        "Create the Secret and key that model.huggingFace.tokenSecretRef names, in the model's namespace",
        RetryClass.ACCESS,
    ),
    FailureCode.SOURCE_CHANGED.value: Entry(
        "The files are not those that were pinned; set model.huggingFace.revision, model.s3.uri or "
        "model.persistentVolumeClaim.path to others",
        RetryClass.OWN,
    ),
    FailureCode.SOURCE_UNREACHABLE.value: Entry(
        "Check that compile pods reach the source (model.huggingFace.endpoint or HF_ENDPOINT, model.s3.region, proxy, "
        "network policy)",
        RetryClass.TRANSIENT,
    ),
    FailureCode.SOURCE_RATE_LIMITED.value: Entry(
        "Nothing: it is asked again by itself. A token in model.huggingFace.tokenSecretRef raises the limit",
        RetryClass.TRANSIENT,
    ),
    FailureCode.SOURCE_INCOMPLETE.value: Entry(
        "Put config.json, tokenizer.json and *.safetensors at the top level of what model names; pytorch_model*.bin "
        "needs model.allowPickle",
        RetryClass.ACCESS,
    ),
    FailureCode.SOURCE_UNSAFE.value: Entry(
        "Use weights in safetensors, and files that lie in the folder itself (model.huggingFace.repo, model.s3.uri or "
        "model.persistentVolumeClaim.path)",
        RetryClass.OWN,
    ),
    FailureCode.SOURCE_MISSING.value: Entry(
        "Check that nothing deletes objects below artifactStore.s3.prefix; the source is fetched again",
        RetryClass.BUG,
    ),
    FailureCode.SOURCE_DAMAGED.value: Entry(
        "Delete the source snapshot from the store; it is then fetched again", RetryClass.SPEC
    ),
    FailureCode.STORE_ACCESS_DENIED.value: Entry(
        "Grant the service account s3:GetObject, s3:PutObject and s3:ListBucket on artifactStore.s3.bucket",
        RetryClass.ACCESS,
    ),
    FailureCode.STORE_BUCKET_NOT_FOUND.value: Entry(
        "Create the bucket, or set artifactStore.s3.bucket to one that exists", RetryClass.ACCESS
    ),
    FailureCode.STORE_UNREACHABLE.value: Entry(
        "Check that pods reach the S3 endpoint of artifactStore.s3.region", RetryClass.TRANSIENT
    ),
    FailureCode.UNSUPPORTED_MODEL.value: Entry(
        "Set model.huggingFace.repo to a complete model (config.json, tokenizer.json, safetensors) of a supported "
        "architecture",
        RetryClass.SPEC,
    ),
    FailureCode.TOOLCHAIN_MISMATCH.value: Entry(
        "Make the platform setting cpu.toolchain name what is in cpu.compileImage", RetryClass.SPEC
    ),
    FailureCode.COMPILER_FAILED.value: Entry(
        "Read the log of the compile Job's pod; a smaller shapes.maxModelLength is worth a try", RetryClass.BUG
    ),
    FailureCode.OUT_OF_MEMORY.value: Entry(
        "Raise the memory in compile.resources",
        RetryClass.SETTINGS,
        serving=Entry("Raise the memory in serving.resources", RetryClass.BUG),
    ),
    FailureCode.OUT_OF_DISK.value: Entry(
        "Free disk space on the nodes, or request ephemeral-storage in compile.resources and serving.resources",
        RetryClass.BUG,
    ),
    FailureCode.ARTIFACT_MISSING.value: Entry(
        "Check that nothing deletes objects below artifactStore.s3.prefix; the artifact is compiled again",
        RetryClass.BUG,
    ),
    FailureCode.ARTIFACT_DAMAGED.value: Entry(
        "Delete the artifact from the store; it is then compiled again", RetryClass.SPEC
    ),
    FailureCode.ARTIFACT_INCOMPATIBLE.value: Entry(
        "Make the platform settings cpu.servingImage and cpu.toolchain belong together", RetryClass.SPEC
    ),
    FailureCode.INVALID_SPEC.value: Entry(
        "Operator and image are of different releases; make the platform's images match the operator", RetryClass.SPEC
    ),
    FailureCode.INTERNAL.value: Entry("Report it with the log of the pod", RetryClass.BUG),
    TIMED_OUT: Entry("Raise compile.timeout, or give more CPU in compile.resources", RetryClass.SETTINGS),
    POD_NEVER_RAN: Entry(
        "Mend what kept the pod from running: its image, quota, ServiceAccount, or room on the nodes",
        RetryClass.ACCESS,
    ),
    POD_LOST: Entry("Nothing: the compile is started again", RetryClass.TRANSIENT),
    UNKNOWN: Entry("Read the log of the pod", RetryClass.BUG),
}
