"""Whether the local cluster still runs, all of it, while the demo waits for something else."""

from __future__ import annotations

import time

from demo.failure import DemoFailed
from neuron_localcluster.cluster import Cluster
from neuron_localcluster.errors import ClusterError, tail

_LOOK_SECONDS = 5.0


def check(cluster: Cluster) -> None:
    """Raises DemoFailed that names what of the cluster has ended, and its log."""
    ended = [component for component in cluster.status() if component.pid is None]
    if ended:
        names = ", ".join(component.name for component in ended)
        # In the order of their start: what ends first takes others with it.
        first = ended[0]
        raise DemoFailed(
            f"of the local cluster this has ended: {names}",
            remedy="`make demo` starts it again",
            excerpt=tail(first.log),
            log=first.log,
        )


def any_runs(cluster: Cluster) -> bool:
    """Whether anything of the cluster runs; nothing does where its record cannot be read."""
    try:
        return any(component.pid for component in cluster.status())
    except ClusterError:
        return False


def watch(cluster: Cluster, pause: float = _LOOK_SECONDS) -> None:
    """Returns once somebody else has ended the cluster in good order; raises DemoFailed when a part of it ends."""
    while any_runs(cluster):
        try:
            check(cluster)
        except DemoFailed:
            # Asked in this order: a `down` that was at work may be done by now.
            if not cluster.is_changing() and any_runs(cluster):
                raise
        time.sleep(pause)
