"""The operator's own Prometheus metrics, named as controller-runtime names them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_PREFIX = "neuron_operator"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One set of metrics, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._reconciles = Counter(f"{_PREFIX}_reconcile", "Reconciles by result.", ["result"], registry=self._registry)
        self._seconds = Histogram(
            f"{_PREFIX}_reconcile_time_seconds", "Length of reconciles.", buckets=_SECONDS, registry=self._registry
        )
        self._waited = Histogram(
            f"{_PREFIX}_workqueue_queue_duration_seconds",
            "How long keys waited for a worker.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._depth = Gauge(f"{_PREFIX}_workqueue_depth", "Keys that wait for a worker.", registry=self._registry)
        self._leader = Gauge(f"{_PREFIX}_leader", "1 while this replica leads.", registry=self._registry)

    def taken(self, waited: float, depth: int) -> None:
        """A key was taken from the queue."""
        self._waited.observe(waited)
        self._depth.set(depth)

    def reconciled(self, result: str, seconds: float) -> None:
        """A reconcile ended."""
        self._reconciles.labels(result).inc()
        self._seconds.observe(seconds)

    def leading(self, yes: bool) -> None:
        """Leadership changed."""
        self._leader.set(int(yes))

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
