"""Questions of an exact length, and what a checkpoint's decode step reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_localcluster.standins.tiny_llama import tiny_llama
from serving.compiled import weights
from serving.prompts import questions


def _length(text: str) -> int:
    """Words and single digits, beside a template of 5 tokens."""
    return 5 + sum(len(word) if word.isdigit() else 1 for word in text.split())


def test_questions_differ_and_are_equally_long() -> None:
    asked = questions(20, 40, _length)
    assert len(set(asked)) == 20
    assert {_length(text) for text in asked} == {40}


def test_questions_that_are_too_long_are_told() -> None:
    with pytest.raises(ValueError, match="no question of 10 tokens"):
        questions(1, 10, _length)


def test_a_decode_step_reads_all_but_the_input_embedding(tmp_path: Path) -> None:
    """Two layers: 64 wide, 128 in the middle, 32 for keys and for values; 512 or fewer tokens; head of its own."""
    tiny_llama(tmp_path)
    layer = 2 * 64 + 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128
    size = weights(tmp_path)
    embedding = size.total - size.step
    assert size.step == 4 * (2 * layer + 64) + embedding
    assert embedding % (4 * 64) == 0
