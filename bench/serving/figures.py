"""From what one round measured to its figures, and from all rounds to spreads and targets. Nothing is measured here."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from serving.contestants import Generated
from serving.load import LoadResult
from serving.spread import Spread, percentile, spread

OURS = "ours"
GRAPHS = "graphs"
TRANSFORMERS = "transformers"
LLAMA_CPP = "llama.cpp"


@dataclass(frozen=True)
class RawFigures:
    """One generation without a server."""

    tokens_per_second: float
    prefill_seconds: float
    step_seconds: float
    """Median of all decode steps."""
    answers: tuple[tuple[int, ...], ...]


def raw_figures(generated: Generated) -> RawFigures:
    """Of one contestant and batch."""
    return RawFigures(
        tokens_per_second=generated.tokens_per_second,
        prefill_seconds=generated.prefill_seconds,
        step_seconds=statistics.median(generated.step_seconds),
        answers=generated.answers,
    )


@dataclass(frozen=True)
class LoadFigures:
    """One load on a server; times in seconds."""

    streams: int
    tokens_per_second: float
    wall: float
    first_p50: float
    """Time to first token: from the request's last byte to the first text."""
    first_p99: float
    gap_p50: float
    """Between two pieces of text of one answer."""
    gap_p99: float
    requests: int
    tokens: int
    errors: tuple[str, ...]
    client_busy: float
    graph_seconds: float | None
    """For how long the server's graphs ran meanwhile."""

    @property
    def overhead(self) -> float | None:
        """Share of the time in which no graph ran."""
        return None if self.graph_seconds is None else (self.wall - self.graph_seconds) / self.wall


def load_figures(streams: int, result: LoadResult, graph_seconds: float | None) -> LoadFigures:
    """Of one load. Raises ValueError when no question was answered."""
    answered = [answer for answer in result.answers if answer.error is None and answer.texts]
    errors = tuple(answer.error for answer in result.answers if answer.error is not None)
    if not answered:
        raise ValueError(f"no question was answered: {errors[0] if errors else 'all answers were empty'}")
    firsts = [answer.texts[0] - answer.sent for answer in answered]
    gaps = [after - before for answer in answered for before, after in pairwise(answer.texts)]
    wall = max(answer.ended for answer in answered) - min(answer.sent for answer in answered)
    tokens = sum(answer.tokens for answer in answered)
    return LoadFigures(
        streams=streams,
        tokens_per_second=tokens / wall,
        wall=wall,
        first_p50=percentile(firsts, 50),
        first_p99=percentile(firsts, 99),
        gap_p50=percentile(gaps, 50),
        gap_p99=percentile(gaps, 99),
        requests=len(result.answers),
        tokens=tokens,
        errors=errors,
        client_busy=result.busy_share,
        graph_seconds=graph_seconds,
    )


@dataclass(frozen=True)
class Start:
    """One start of our server, its files being on local disk."""

    seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Round:
    """All contestants once, one after the other."""

    bytes_per_second: float
    """Of one thread that reads memory."""
    raw: Mapping[str, Mapping[int, RawFigures]]
    """By contestant and batch."""
    loads: Mapping[str, Mapping[str, LoadFigures]]
    """By server and load."""


@dataclass(frozen=True)
class Measured:
    """All that a run measured."""

    settings: Mapping[str, Any]
    versions: Mapping[str, Mapping[str, str]]
    slots: int
    judged: bool
    """Whether its figures are held against the targets."""
    weight_bytes: int
    step_bytes: int
    """Of them, what one decode step reads."""
    starts: Sequence[Start]
    rounds: Sequence[Round]


@dataclass(frozen=True)
class Figure:
    """One line of the summary."""

    name: str
    value: Spread
    unit: str
    target: str | None = None
    """`>= 0.9` or `<= 3`."""

    @property
    def met(self) -> bool | None:
        """Whether the median keeps to the target."""
        if self.target is None:
            return None
        relation, bound = self.target.split()
        return self.value.median >= float(bound) if relation == ">=" else self.value.median <= float(bound)


# Names of loads.
ALONE, FULL, TWICE, ARRIVALS = "alone", "full", "twice", "arrivals"
_MILLI, _MEGA = 1e3, 1e6


def summarize(measured: Measured) -> list[Figure]:
    """The figures of a run, those with a target first."""
    figures = [*_raw_ratios(measured), *_served(measured), *_starts(measured), *_absolute(measured)]
    if not measured.judged:
        return [replace(figure, target=None) for figure in figures]
    return sorted(figures, key=lambda figure: figure.target is None)


def agreement(rounds: Sequence[Round]) -> dict[str, float]:
    """Share of tokens in which each contestant's greedy answers are those of ours: less than 1 is another model."""
    shares = {}
    for name in rounds[0].raw:
        pairs = [
            (ours, theirs)
            for round_ in rounds
            for batch, figures in round_.raw[GRAPHS].items()
            for ours_answer, their_answer in zip(figures.answers, round_.raw[name][batch].answers, strict=True)
            for ours, theirs in zip(ours_answer, their_answer, strict=True)
        ]
        shares[name] = sum(ours == theirs for ours, theirs in pairs) / len(pairs)
    return shares


def _raw_ratios(measured: Measured) -> Iterable[Figure]:
    rounds, slots = measured.rounds, measured.slots
    roofline = [round_.bytes_per_second / measured.step_bytes for round_ in rounds]
    alone = _raw(rounds, GRAPHS, 1)
    yield Figure("decode B1 / roofline", _ratio(alone, roofline), "x", ">= 0.9")
    targets = {(TRANSFORMERS, 1): ">= 2", (TRANSFORMERS, slots): ">= 1.3", (LLAMA_CPP, 1): ">= 0.95"}
    targets[LLAMA_CPP, slots] = ">= 0.85"
    for name in rounds[0].raw:
        for batch in (1, slots) if name != GRAPHS else ():
            ratio = _ratio(_raw(rounds, GRAPHS, batch), _raw(rounds, name, batch))
            yield Figure(f"decode B{batch} / {name}", ratio, "x", targets.get((name, batch)))


def _served(measured: Measured) -> Iterable[Figure]:
    loads = [round_.loads[OURS] for round_ in measured.rounds]
    prefill = [round_.raw[GRAPHS][1].prefill_seconds for round_ in measured.rounds]
    firsts = [load[ALONE].first_p50 for load in loads]
    over = [_MILLI * (first - graph) for first, graph in zip(firsts, prefill, strict=True)]
    yield Figure("TTFT alone - prefill graph", spread(over), "ms", "<= 3")
    # Of a model that is faster than the network, several pieces come at once.
    if all(load[ARRIVALS].gap_p50 > 0 for load in loads):
        tails = spread(load[ARRIVALS].gap_p99 / load[ARRIVALS].gap_p50 for load in loads)
        yield Figure("inter-token p99/p50 with arrivals", tails, "x", "<= 1.6")
    for name, bound in ((ALONE, "<= 3"), (FULL, "<= 5")):
        yield Figure(f"overhead {name}", spread(_overheads(measured, name)), "%", bound)
    twice = _ratio([load[TWICE].tokens_per_second for load in loads], [load[FULL].tokens_per_second for load in loads])
    yield Figure("throughput twice / full", twice, "x", ">= 1")
    errors = spread(sum(len(figures.errors) for figures in load.values()) for load in loads)
    yield Figure("errors in a round", errors, "", "<= 0")
    for server in measured.rounds[0].loads:
        for name in (ALONE, FULL, TWICE) if server != OURS else ():
            theirs = [round_.loads[server][name].tokens_per_second for round_ in measured.rounds]
            ratio = _ratio([load[name].tokens_per_second for load in loads], theirs)
            yield Figure(f"served {name} / {server}", ratio, "x")


def _starts(measured: Measured) -> Iterable[Figure]:
    yield Figure("exec to ready", spread(start.seconds for start in measured.starts), "s", "<= 1.5")
    beyond = spread((start.memory_bytes - measured.weight_bytes) / _MEGA for start in measured.starts)
    yield Figure("resident memory beyond the weights", beyond, "MB", "<= 300")


def _absolute(measured: Measured) -> Iterable[Figure]:
    rounds = measured.rounds
    yield Figure("memory read by one thread", spread(round_.bytes_per_second / 1e9 for round_ in rounds), "GB/s")
    roofline = spread(round_.bytes_per_second / measured.step_bytes for round_ in rounds)
    yield Figure("roofline B1", roofline, "tokens/s")
    for name in rounds[0].raw:
        for batch in rounds[0].raw[name]:
            yield Figure(f"decode B{batch} {name}", spread(_raw(rounds, name, batch)), "tokens/s")
        prefill = spread(_MILLI * round_.raw[name][1].prefill_seconds for round_ in rounds)
        yield Figure(f"prefill {name}", prefill, "ms")
    for server in rounds[0].loads:
        for name in rounds[0].loads[server]:
            loads = [round_.loads[server][name] for round_ in rounds]
            title = f"served {name} {server}" if server != OURS else f"served {name}"
            yield Figure(title, spread(load.tokens_per_second for load in loads), "tokens/s")
            yield Figure(f"{title}, TTFT p50", spread(_MILLI * load.first_p50 for load in loads), "ms")
            yield Figure(f"{title}, TTFT p99", spread(_MILLI * load.first_p99 for load in loads), "ms")
            yield Figure(f"{title}, inter-token p50", spread(_MILLI * load.gap_p50 for load in loads), "ms")
            yield Figure(f"{title}, inter-token p99", spread(_MILLI * load.gap_p99 for load in loads), "ms")


def _overheads(measured: Measured, load: str) -> Iterable[float]:
    """In percent. Where the server does not say how long its graphs ran, it is what the graphs took without it."""
    batch = 1 if load == ALONE else measured.slots
    for round_ in measured.rounds:
        figures, raw = round_.loads[OURS][load], round_.raw[GRAPHS]
        overhead = figures.overhead
        if overhead is None:
            steps = (figures.tokens - figures.requests) / batch * raw[batch].step_seconds
            graphs = figures.requests * raw[1].prefill_seconds + steps
            overhead = (figures.wall - graphs) / figures.wall
        yield 100 * overhead


def _raw(rounds: Sequence[Round], name: str, batch: int) -> list[float]:
    return [round_.raw[name][batch].tokens_per_second for round_ in rounds]


def _ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Round by round: what disturbs a whole round disturbs both."""
    return spread(above / below for above, below in zip(numerators, denominators, strict=True))
