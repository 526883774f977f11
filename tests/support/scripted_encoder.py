"""A deterministic encoder for the server's tests: it holds the caller to the protocol and says what it was told to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from neuron_runtime.engines.base import EncoderCapabilities, Vectors

LENGTHS = (4, 16)
BATCHES = (1, 4)
VOCABULARY = 300


def vector_of(tokens: Sequence[int]) -> list[float]:
    """What the encoder says of a text: three numbers that tell texts apart."""
    return [float(len(tokens)), float(sum(tokens)), 1 / (1 + tokens[0])]


class ScriptedEncoder:
    """Its vectors are those of `vector_of`. What breaks the protocol is in `broken_rules`."""

    def __init__(self, **capabilities: Any) -> None:
        limits: dict[str, Any] = {"lengths": LENGTHS, "batches": BATCHES, "vocabulary": VOCABULARY, "dimensions": 3}
        self.capabilities = EncoderCapabilities(**(limits | capabilities))
        self.calls: list[list[tuple[int, ...]]] = []
        """The texts of every step."""
        self.broken_rules: list[str] = []
        self.closed = False
        self.fail = False
        self.not_a_number: int | None = None
        """The first token of texts whose vectors are no numbers."""
        self.steps: threading.Semaphore | None = None
        """When set, each step takes one of these: the test decides how far the engine gets."""
        self.begun = threading.Semaphore(0)
        """One for each step that has begun."""
        self._result: Vectors | None = None

    def warm_up(self) -> None:
        """Nothing to warm up."""

    def close(self) -> None:
        self.closed = True

    def encode(self, rows: Sequence[Sequence[int]]) -> Vectors:
        # What a step returned is gone with the next one.
        if self._result is not None:
            self._result.fill(-1)
        self.calls.append([tuple(row) for row in rows])
        self.begun.release()
        if self.steps is not None:
            self.steps.acquire()
        if self.fail:
            raise RuntimeError("the device is gone")
        limits = self.capabilities
        self._rule(0 < len(rows) <= limits.batches[-1], f"{len(rows)} texts")
        for row in rows:
            self._rule(0 < len(row) <= limits.max_length, f"{len(row)} tokens")
            self._rule(all(0 <= token < limits.vocabulary for token in row), f"tokens {row}")
        self._result = np.array([self._vector(row) for row in rows], np.float32)
        return self._result

    def _vector(self, row: Sequence[int]) -> list[float]:
        return [float("nan")] * 3 if row[0] == self.not_a_number else vector_of(row)

    def _rule(self, kept: bool, message: str) -> None:
        if not kept:
            self.broken_rules.append(message)
            raise AssertionError(message)
