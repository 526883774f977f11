"""Waiting for somebody: for the model that compiles the same artifact, or for one who lets a pod run."""

from dataclasses import replace

from neuron_operator.api.conditions import Reason
from neuron_operator.api.objects import Key, Manifest, labels_of
from neuron_operator.api.status import WaitingFor
from neuron_operator.model.policies import Claim
from neuron_operator.model.resources import names
from neuron_operator.model.resources.compile_job import settings_digest_of
from neuron_operator.model.serving_state import Trouble
from neuron_operator.model.steps import Fail, Step, Wait, as_cause

# Who holds a shared compile may change without an event for the others (a suspension, another spec).
_SHARED_SECONDS = 120.0


def wait_for_help(reason: Reason, trouble: Trouble, where: str = "", *, after: float | None = None) -> Wait:
    """Wait for what keeps a pod from running, told with what to do about it."""
    message = f"{as_cause(trouble.message)}{where}. {trouble.remedy}"
    return Wait(reason, message, after=after, waiting_for=WaitingFor(reason=trouble.reason.value, message=message))


def claim_of(job: Manifest) -> Claim:
    """The claim of the model that a live Job belongs to."""
    return Claim(Key(job["metadata"]["namespace"], labels_of(job)[names.MODEL_LABEL]), settings_digest_of(job) or "")


def wait_for_holder(other: Claim, own: Key) -> Step:
    """Wait for the model that holds the flight; it counts for this one as well if that has given up."""
    name = other.key.name if other.key.namespace == own.namespace else str(other.key)
    gave_up, trouble = other.gave_up, other.standstill
    if gave_up is not None:
        cause = f"NeuronModel {name} compiles the same artifact and has failed ({gave_up.code}): {gave_up.message}"
        remedy = f"{gave_up.remedy}. Deleting the Job of NeuronModel {name} tries again"
        return Fail(Reason.COMPILE_FAILED, cause, remedy, after=_SHARED_SECONDS)
    if trouble is not None:
        cause = f"NeuronModel {name} is to compile the same artifact, and does not get to: {trouble.message}"
        trouble = replace(trouble, message=cause)
        return wait_for_help(Reason.WAITING_FOR_SHARED_COMPILE, trouble, after=_SHARED_SECONDS)
    message = f"NeuronModel {name} compiles the same artifact; it will be shared"
    return Wait(Reason.WAITING_FOR_SHARED_COMPILE, message, after=_SHARED_SECONDS)
