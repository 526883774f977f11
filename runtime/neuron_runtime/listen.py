"""The socket to listen on: `BIND_ADDRESS` when set, else all addresses, of both families where there is IPv6."""

import socket
from collections.abc import Mapping

from neuron_runtime.contract.launch import BIND_ADDRESS_VARIABLE
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode

_BACKLOG = 1024
_PATIENCE_SECONDS = 60.0


def listen(environment: Mapping[str, str], port: int, *, patience: float = _PATIENCE_SECONDS) -> socket.socket:
    """A listening socket. Raises ContainerFailure(INTERNAL) when the address cannot be taken.

    A connection whose client takes nothing of what was sent to it for `patience` seconds is closed (on Linux).
    """
    address = environment.get(BIND_ADDRESS_VARIABLE)
    try:
        listener = _listener(address, port)
    except OSError as error:
        raise ContainerFailure(
            FailureCode.INTERNAL, f"cannot listen on {address or 'any address'}, port {port}: {error}"
        ) from error
    # Connections inherit it. asyncio sets it only on sockets made with an explicit protocol, which `create_server`
    # does not do; without it every answer waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # The server has no limit on writes of its own: the answer for a client that never reads it would be held in
        # memory for as long as the client likes. The kernel's limit holds for a closed window, too.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(patience * 1000))
    return listener


def _listener(address: str | None, port: int) -> socket.socket:
    if address:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family, backlog=_BACKLOG)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    return socket.create_server(("0.0.0.0", port), backlog=_BACKLOG)  # noqa: S104 - a pod's server is for its network
