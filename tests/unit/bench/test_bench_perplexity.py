"""What a model makes of a text, by a session that is told what to think."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import quantization
from neuron_runtime.engines.base import DecodeRow, Step
from quantization.perplexity import Judged, judge, negative_logarithms

_VOCABULARY = 8


class _Counting:
    """Thinks that the next token is one more, three times as likely as all others together; keeps what it was asked."""

    capabilities = SimpleNamespace(slots=2)

    def __init__(self) -> None:
        self.asked = list[list[tuple[int, int, int]]]()
        self.released = list[int]()

    def decode(self, rows: Sequence[DecodeRow]) -> Step:
        self.asked.append([(row.slot, row.token, row.position) for row in rows])
        logits = np.zeros((len(rows), _VOCABULARY), np.float32)
        for number, row in enumerate(rows):
            logits[number, (row.token + 1) % _VOCABULARY] = math.log(3 * (_VOCABULARY - 1))
        return Step(tokens=logits.argmax(axis=1), logits=logits)

    def release(self, slot: int) -> None:
        self.released.append(slot)


def _judge(text: Sequence[int], window: int) -> tuple[Judged, _Counting]:
    session: Any = _Counting()
    return judge(session, text, window), session


def test_the_perplexity_of_what_was_expected_is_one_over_its_probability() -> None:
    expected, _ = _judge([0, 1, 2, 3], 4)
    assert expected.perplexity == pytest.approx(4 / 3)
    others, _ = _judge([0, 0, 0, 0], 4)
    assert others.perplexity == pytest.approx(4 * (_VOCABULARY - 1))
    assert expected.agreement(expected) == 1
    assert expected.favorites == (1, 2, 3)
    assert expected.agreement(others) == pytest.approx(1 / 3)


def test_windows_are_read_side_by_side_and_each_from_its_start() -> None:
    """Two slots and three windows of three; two tokens are left over."""
    judged, session = _judge([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2], 3)
    assert session.asked == [
        [(0, 0, 0), (1, 3, 0)],
        [(0, 1, 1), (1, 4, 1)],
        [(0, 6, 0)],
        [(0, 7, 1)],
    ]
    assert session.released == [0, 1, 0]
    assert len(judged.losses) == 6


def test_large_logits_have_logarithms() -> None:
    assert negative_logarithms(np.array([[1e4, 0.0]], np.float32), [1]) == [pytest.approx(1e4)]


def test_the_text_is_long_enough_to_tell_models_apart() -> None:
    """Tokens are more than words."""
    assert len((Path(quantization.__path__[0]) / "text.txt").read_text("utf-8").split()) > 1500
