"""The phases of a reconcile, in their order. Each does one thing, and returns whether the next may follow."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from neuron_operator.api.conditions import ConditionType
from neuron_operator.api.status import Phase as PhaseWord
from neuron_operator.model.scope import Scope
from neuron_operator.model.steps import Step
from neuron_operator.model.tools import Tools

from .artifact import look_up_artifact
from .compile import cancel_superseded, compile_artifact
from .identities import apply_identities
from .inspect import delete_inspections
from .plan import plan_model
from .record import record_revision
from .retire import delete_finished_jobs, retire
from .serve import bring_up, claim_service, keep_serving, stop_when_suspended, switch
from .source import check_records, recall_record, resolve_source
from .upstream import follow_upstream


@dataclass(frozen=True)
class Phase:
    """A phase, the condition that it decides, and the word for a model that stands in it."""

    run: Callable[[Scope, Tools], Awaitable[Step]]
    condition: ConditionType
    word: PhaseWord


PHASES = (
    Phase(stop_when_suspended, ConditionType.READY, PhaseWord.SUSPENDED),
    Phase(check_records, ConditionType.PLANNED, PhaseWord.PENDING),
    Phase(keep_serving, ConditionType.READY, PhaseWord.PENDING),
    Phase(recall_record, ConditionType.PLANNED, PhaseWord.PENDING),
    Phase(claim_service, ConditionType.READY, PhaseWord.PENDING),
    Phase(resolve_source, ConditionType.SOURCE_RESOLVED, PhaseWord.RESOLVING),
    Phase(plan_model, ConditionType.PLANNED, PhaseWord.PLANNING),
    Phase(record_revision, ConditionType.PLANNED, PhaseWord.PLANNING),
    Phase(delete_inspections, ConditionType.PLANNED, PhaseWord.PLANNING),
    Phase(cancel_superseded, ConditionType.COMPILED, PhaseWord.COMPILING),
    Phase(apply_identities, ConditionType.COMPILED, PhaseWord.COMPILING),
    Phase(look_up_artifact, ConditionType.COMPILED, PhaseWord.COMPILING),
    Phase(compile_artifact, ConditionType.COMPILED, PhaseWord.COMPILING),
    Phase(bring_up, ConditionType.READY, PhaseWord.LOADING),
    Phase(delete_finished_jobs, ConditionType.READY, PhaseWord.LOADING),
    Phase(switch, ConditionType.READY, PhaseWord.LOADING),
    Phase(retire, ConditionType.READY, PhaseWord.READY),
    Phase(follow_upstream, ConditionType.READY, PhaseWord.READY),
)
