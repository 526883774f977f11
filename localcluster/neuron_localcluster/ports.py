"""Free ports on loopback, kept for a cluster's life so that its addresses survive `down` and `up`."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Collection, Iterable, Mapping

# Below Linux's ephemeral range: no outgoing connection takes one of them while the cluster is down.
_FIRST, _LAST = 20000, 32000


def is_free(port: int) -> bool:
    """Whether every loopback address can be listened on at that port now; the hub's stand-in uses two of them."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def assign(
    names: Iterable[str],
    kept: Mapping[str, int],
    running: Collection[str] = (),
    free: Callable[[int], bool] = is_free,
) -> dict[str, int]:
    """A port for each name: the kept one unless a stranger has taken it; `running` names hold theirs themselves."""
    assigned: dict[str, int] = {}
    for name in names:
        port = kept.get(name)
        if port is None or not (name in running or free(port)):
            port = _pick({*kept.values(), *assigned.values()}, free)
        assigned[name] = port
    return assigned


def _pick(taken: Collection[int], free: Callable[[int], bool]) -> int:
    start = random.randrange(_FIRST, _LAST)  # noqa: S311 - spreads clusters of one machine, nothing secret
    candidates: list[int] = [*range(start, _LAST), *range(_FIRST, start)]
    for port in candidates:
        if port not in taken and free(port):
            return port
    raise OSError(f"no free port between {_FIRST} and {_LAST}")
