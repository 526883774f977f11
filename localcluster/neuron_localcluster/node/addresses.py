"""A loopback address per pod, held against other agents on this machine by a bound socket."""

from __future__ import annotations

import ipaddress
import random
import socket

# Nothing listens there: the bound socket alone tells other agents that the address is taken.
_CLAIM_PORT = 65535
_ATTEMPTS = 1000


class AddressPool:
    """Hands out addresses of one network."""

    def __init__(self, network: str) -> None:
        self._network = ipaddress.IPv4Network(network)
        self._claims: dict[str, socket.socket] = {}

    def take(self, preferred: str = "") -> str:
        """A free address, the preferred one if possible; raises OSError when none can be found."""
        if preferred and ipaddress.IPv4Address(preferred) in self._network and self._claim(preferred):
            return preferred
        for _ in range(_ATTEMPTS):
            # Neither the network's own address nor the one that ends it.
            offset = random.randrange(1, self._network.num_addresses - 1)  # noqa: S311 - spreads agents, nothing secret
            if self._claim(address := str(self._network[offset])):
                return address
        raise OSError(f"no free address in {self._network}; delete some pods")

    def give_back(self, address: str) -> None:
        if claim := self._claims.pop(address, None):
            claim.close()

    def _claim(self, address: str) -> bool:
        if address in self._claims:
            return False
        claim = socket.socket()
        try:
            claim.bind((address, _CLAIM_PORT))
        except OSError:
            claim.close()
            return False
        self._claims[address] = claim
        return True
