"""Engines that generate from the same weights: one module each, imported only in the process that runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Generated:
    """One greedy generation for a batch of prompts, timed where the tokens come out."""

    prefill_seconds: float
    """From the call until the first token of every prompt."""
    step_seconds: tuple[float, ...]
    """For each further token: one step that advances all sequences by one."""
    answers: tuple[tuple[int, ...], ...]
    """Tokens of each sequence."""

    @property
    def tokens_per_second(self) -> float:
        """While decoding: tokens of all sequences together. 0 when there was no step."""
        seconds = sum(self.step_seconds)
        return len(self.answers) * len(self.step_seconds) / seconds if seconds else 0.0

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Generated:
        """What `document` made, after JSON."""
        return cls(
            prefill_seconds=document["prefill_seconds"],
            step_seconds=tuple(document["step_seconds"]),
            answers=tuple(tuple(answer) for answer in document["answers"]),
        )


class Contestant(Protocol):
    """A loaded model. It runs on one thread and does not stop at any token."""

    def versions(self) -> Mapping[str, str]:
        """Of the libraries that do the work."""

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> Generated:
        """The likeliest tokens after each prompt, which are equally long."""
