"""What the phases of one reconcile share: the picture, and what they found out. No I/O."""

from dataclasses import dataclass

from neuron_operator.api.objects import Manifest
from neuron_operator.api.status import ArtifactStatus, CompileStatus, LastFailure
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.planning.planner import Plan
from neuron_runtime.contract.inspection import ArtifactFacts, SourceFacts

from .observe import Observed
from .revision import Revision


@dataclass
class Scope:
    """One model in one reconcile. Phases fill in what they find out; the status is derived from it at the end."""

    model: NeuronModel
    observed: Observed
    source: SourceFacts | None = None
    compiled_elsewhere: ArtifactFacts | None = None
    """What stands in the place of a source where the spec names an artifact."""
    plan: Plan | None = None
    revision: Revision | None = None
    artifact: ArtifactStatus | None = None
    deployment: Manifest | None = None
    """The target revision's Deployment as it lives."""
    compile: CompileStatus | None = None
    failure: LastFailure | None = None
