"""What the server measures of itself, in Prometheus' text format. A registry of its own: no global state."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_INTER_TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1)
_DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("http_requests", "HTTP requests answered.", ("route", "code"))
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts that were run.")
        self.generated_tokens = self._counter("generated_tokens", "Tokens that were generated.")
        self.engine_failures = self._counter("engine_failures", "Requests that failed within the engine.")
        self.queue_depth = self._gauge("queue_depth", "Requests that wait for the engine.")
        self.running = self._gauge("running_requests", "Requests that hold a slot of the engine.")
        self.slots = self._gauge("slots", "Requests that can hold a slot at the same time.")
        self.graph_seconds = self._counter("graph_seconds", "Time that the engine's steps took.")
        self.rows_per_step = self._histogram(
            "rows_per_step",
            "Requests, or an encoder's texts, that shared a step of the engine.",
            _ROWS_BUCKETS,
            ("step",),
        )
        self.ready = self._gauge("ready", "1 while the server takes requests.")
        self.load_phase = self._gauge(
            "load_phase_seconds", "Duration of each phase of the start; phases may overlap.", ("phase",)
        )
        self.load_phase_start = self._gauge(
            "load_phase_start_seconds", "From the start to the beginning of each of its phases.", ("phase",)
        )
        self.load_waiting = self._gauge(
            "load_waiting_seconds", "The part of the phase Loading in which it waited for files."
        )
        self.queue_wait = self._histogram(
            "queue_wait_seconds", "From a request to the engine's start.", _DURATION_BUCKETS
        )
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds", "From a request to its first token.", _FIRST_TOKEN_BUCKETS
        )
        self.inter_token = self._histogram(
            "inter_token_seconds", "Between two tokens of one request.", _INTER_TOKEN_BUCKETS
        )
        self.request_duration = self._histogram(
            "request_duration_seconds", "From a request to its last token, or its vectors.", _DURATION_BUCKETS
        )

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _counter(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"neuron_serving_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"neuron_serving_{name}", help_text, labels, registry=self.registry)

    def _histogram(
        self, name: str, help_text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()
    ) -> Histogram:
        return Histogram(f"neuron_serving_{name}", help_text, labels, registry=self.registry, buckets=buckets)
