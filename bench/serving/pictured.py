"""Which figures of a run are drawn."""

from __future__ import annotations

from serving.chart import Bar, Group
from serving.figures import ALONE, FULL, GRAPHS, OURS, TWICE, Measured
from serving.spread import spread


def groups(measured: Measured) -> list[Group]:
    """Decoding without a server at both batches, then through HTTP at three numbers of streams."""
    rounds = measured.rounds
    drawn = []
    for batch in rounds[0].raw[GRAPHS]:
        bars = [
            Bar(
                "ours" if name == GRAPHS else name,
                spread(round_.raw[name][batch].tokens_per_second for round_ in rounds),
                "ours" if name == GRAPHS else "other",
            )
            for name in rounds[0].raw
        ]
        if batch == 1:
            roofline = spread(round_.bytes_per_second / measured.step_bytes for round_ in rounds)
            bars.append(Bar("memory bandwidth", roofline, "bound"))
        drawn.append(Group(f"Decode, batch {batch}, tokens/s", bars))
    bars = [
        Bar(
            f"{server}, {rounds[0].loads[server][load].streams} streams",
            spread(round_.loads[server][load].tokens_per_second for round_ in rounds),
            "ours" if server == OURS else "other",
        )
        for load in (ALONE, FULL, TWICE)
        for server in rounds[0].loads
    ]
    drawn.append(Group("Through HTTP, tokens/s", bars))
    return drawn
