"""What holds instead of the catalogue's entries where it is no compile that failed.

An inspect Job has resources and a time limit of its own, which no field of the spec changes, and an artifact that was
compiled elsewhere lies in a store of its own and is never compiled.
"""

from dataclasses import replace

from neuron_runtime.contract.outcome import FailureCode

from .catalogue import OUT_OF_MEMORY, POD_LOST, TIMED_OUT, Entry, RetryClass
from .containers import Diagnosis

_INSPECTION: dict[str, Entry] = {
    FailureCode.UNSUPPORTED_MODEL.value: Entry(
        "Set model.huggingFace, model.s3 or model.persistentVolumeClaim to a complete model (config.json, "
        "tokenizer.json, safetensors)",
        RetryClass.SPEC,
    ),
    OUT_OF_MEMORY: Entry("Report it with the size of the source's config.json and listing", RetryClass.BUG),
    TIMED_OUT: Entry(
        "Files of a claim are read as a whole: move the model to a faster volume, or to model.s3", RetryClass.BUG
    ),
    POD_LOST: Entry("Nothing: the source is inspected again", RetryClass.TRANSIENT),
}

_PUT_BACK = Entry("Put it back as it was, or set model.compiledArtifact to another one", RetryClass.ACCESS)
_BROUGHT: dict[str, Entry] = {
    FailureCode.ARTIFACT_MISSING.value: Entry(
        "Check model.compiledArtifact.uri; put the artifact there, or set model.compiledArtifact to another one",
        RetryClass.ACCESS,
    ),
    FailureCode.ARTIFACT_DAMAGED.value: _PUT_BACK,
    FailureCode.SOURCE_MISSING.value: Entry(
        "Put the source's snapshot back, below sources/ of the artifact's store, or set model.compiledArtifact to "
        "another artifact",
        RetryClass.ACCESS,
    ),
    FailureCode.SOURCE_DAMAGED.value: _PUT_BACK,
    FailureCode.STORE_ACCESS_DENIED.value: Entry(
        "Grant neuron-compile and neuron-serving s3:GetObject and s3:ListBucket on the bucket of "
        "model.compiledArtifact.uri",
        RetryClass.ACCESS,
    ),
    FailureCode.STORE_BUCKET_NOT_FOUND.value: Entry(
        "Check the bucket in model.compiledArtifact.uri", RetryClass.ACCESS
    ),
    FailureCode.STORE_UNREACHABLE.value: Entry(
        "Check that pods reach the S3 endpoint of model.compiledArtifact.uri's bucket", RetryClass.TRANSIENT
    ),
}


def of_inspection(diagnosis: Diagnosis, *, brought: bool) -> Diagnosis:
    """The failure of an inspect Job, with what holds for it. `brought`: it was asked for an artifact."""
    found = replace(diagnosis, entry=_INSPECTION.get(diagnosis.code))
    return of_brought_artifact(found) if brought else found


def of_brought_artifact(diagnosis: Diagnosis) -> Diagnosis:
    """A failure around an artifact that was compiled elsewhere, with what holds for it."""
    return replace(diagnosis, entry=_BROUGHT.get(diagnosis.code, diagnosis.entry))
