"""Addresses and ports of loopback that nobody else on this machine uses, be it another test run or a demo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from neuron_localcluster import ports
from neuron_localcluster.node.addresses import AddressPool
from neuron_localcluster.nodes import POD_CIDR

_given: dict[str, int] = {}


@contextmanager
def own_address(network: str = POD_CIDR) -> Iterator[str]:
    """An address that no pod of any local cluster gets meanwhile."""
    pool = AddressPool(network)
    address = pool.take()
    try:
        yield address
    finally:
        pool.give_back(address)


def free_port() -> int:
    """A port that nobody listens on, and that neither an outgoing connection nor a later call takes."""
    name = str(len(_given))
    _given.update(ports.assign([name], _given))
    return _given[name]
