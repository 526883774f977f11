"""The operator's own Prometheus metrics, named as controller-runtime names them."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_PREFIX = "neuron_operator"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# What a person may have to look at; a conflict or an unreachable server comes and goes.
_ERRORS = frozenset({"error", "rejected"})


class Metrics:
    """One set of metrics, in a registry of its own. `depth` gives the keys that wait for a worker."""

    def __init__(self, *, depth: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._reconciles = Counter(f"{_PREFIX}_reconcile", "Reconciles by result.", ["result"], registry=registry)
        self._errors = Counter(f"{_PREFIX}_reconcile_errors", "Reconciles that failed.", registry=registry)
        self._seconds = Histogram(
            f"{_PREFIX}_reconcile_time_seconds", "Length of reconciles.", buckets=_SECONDS, registry=registry
        )
        self._waited = Histogram(
            f"{_PREFIX}_workqueue_queue_duration_seconds",
            "How long keys waited for a worker.",
            buckets=_SECONDS,
            registry=registry,
        )
        Gauge(f"{_PREFIX}_workqueue_depth", "Keys that wait for a worker.", registry=registry).set_function(depth)
        self._leader = Gauge(f"{_PREFIX}_leader", "1 while this replica leads.", registry=registry)

    def taken(self, waited: float) -> None:
        """A key was taken from the queue."""
        self._waited.observe(waited)

    def reconciled(self, result: str, seconds: float) -> None:
        """A reconcile ended."""
        self._reconciles.labels(result).inc()
        self._seconds.observe(seconds)
        if result in _ERRORS:
            self._errors.inc()

    def leading(self, yes: bool) -> None:
        """Leadership changed."""
        self._leader.set(int(yes))

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
