"""Gives the namespace the ServiceAccounts that compile and serving pods run as."""

from neuron_operator.model.resources.service_accounts import service_accounts
from neuron_operator.model.scope import Scope
from neuron_operator.model.steps import Continue, Step
from neuron_operator.model.tools import Tools


async def apply_identities(scope: Scope, tools: Tools) -> Step:
    """Apply both accounts, unless the platform's owners make them themselves."""
    if tools.settings.identities.manage:
        for account in service_accounts(scope.model.metadata.namespace, tools.settings.identities):
            await tools.children.ensure_shared(account)
    return Continue()
