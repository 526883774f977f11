"""Clears away what is no longer needed."""

from neuron_operator.model.jobs import JobState
from neuron_operator.model.scope import Scope
from neuron_operator.model.steps import Continue, Step
from neuron_operator.model.tools import Tools

_KEPT_REVISIONS = 3


async def delete_finished_jobs(scope: Scope, tools: Tools) -> Step:
    """Delete compile Jobs that have ended, or have not begun on what is there by now.

    Only reached once the Deployment holds what was read from the artifact's manifest.
    """
    for job in scope.observed.jobs:
        if job.state is not JobState.LIVE or not job.has_started:
            await tools.children.delete(job.manifest)
    return Continue()


async def retire(scope: Scope, tools: Tools) -> Step:
    """Delete Deployments of other revisions, and old revisions. Only reached once the target revision serves."""
    observed = scope.observed
    for hash_, deployment in observed.deployments.items():
        if hash_ != observed.target:
            await tools.children.delete(deployment)
    past = [revision for hash_, revision in observed.revisions.items() if hash_ != observed.target]
    for revision in past[:-_KEPT_REVISIONS]:
        await tools.children.delete(revision.manifest)
    return Continue()
