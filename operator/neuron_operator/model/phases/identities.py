"""Gives the namespace the ServiceAccounts that compile and serving pods run as."""

from neuron_operator.api.conditions import Reason
from neuron_operator.api.objects import Manifest, key_of
from neuron_operator.api.status import WaitingFor
from neuron_operator.model.jobs import JobState
from neuron_operator.model.resources.service_accounts import service_accounts
from neuron_operator.model.scope import Scope
from neuron_operator.model.steps import Continue, Step, Wait
from neuron_operator.model.tools import Tools

# No event tells of an account that does not carry our label.
_LOOK_AGAIN_SECONDS = 30.0


async def apply_identities(scope: Scope, tools: Tools) -> Step:
    """Apply both accounts; where the platform's owners make them themselves, wait for those that are missing."""
    accounts = service_accounts(scope.model.metadata.namespace, tools.settings.identities)
    if tools.settings.identities.manage:
        for account in accounts:
            await tools.children.ensure_shared(account)
        return Continue()
    if _has_needed_them(scope):
        return Continue()
    missing = [account for account in accounts if not await tools.children.exists(account)]
    if not missing:
        return Continue()
    tools.memory(scope.model).refused = True
    message = f"The platform does not let the operator make ServiceAccounts. {'; '.join(map(_command, missing))}"
    waiting_for = WaitingFor(reason=Reason.SERVICE_ACCOUNT_MISSING.value, message=message)
    return Wait(Reason.SERVICE_ACCOUNT_MISSING, message, after=_LOOK_AGAIN_SECONDS, waiting_for=waiting_for)


def _has_needed_them(scope: Scope) -> bool:
    """Whether Job or Deployment are there already. The API server is not asked for ever what was found once."""
    observed = scope.observed
    return observed.target in observed.deployments or any(job.state is JobState.LIVE for job in observed.jobs)


def _command(account: Manifest) -> str:
    namespace, name = key_of(account)
    return f"kubectl create serviceaccount {name} -n {namespace}"
