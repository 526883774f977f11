"""Answers that are held to JSON: whatever is drawn, what ends by itself is an object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from neuron_localcluster.standins.tiny_llama import tiny_llama
from neuron_runtime.serving.json_grammar import GrammarBroken, JsonGrammar, UnknownTokens
from neuron_runtime.serving.sampling import ConstraintBroken, Sampler, SamplingParameters, constrained
from support.scripted_engine import END, byte_tokenizer

_BYTES = byte_tokenizer()
_END = _BYTES.token_to_id(END)
_GRAMMAR = JsonGrammar(_BYTES.to_str(), [_END])


def _follows(text: str) -> tuple[str, bool]:
    """What of the text the grammar allows, token by token, and whether it is complete with it."""
    answer, taken = _GRAMMAR.start(), list[int]()
    for token in _BYTES.encode(text).ids:
        if answer.complete or not answer.allowed()[token]:
            break
        answer.take(token)
        taken.append(token)
    return _BYTES.decode(taken), answer.complete


_STRINGS = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_STRINGS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    document=st.dictionaries(_STRINGS, _VALUES, max_size=3), indent=st.sampled_from([None, 0, 2]), escape=st.booleans()
)
def test_every_object_can_be_said(document: dict[str, Any], indent: int | None, escape: bool) -> None:
    text = json.dumps(document, ensure_ascii=escape, indent=indent)
    assert _follows(text) == (text, True)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("[1]", ""),
        ('"a"', ""),
        (" {}", ""),
        ("{} ", "{}"),
        ("{}{}", "{}"),
        ('{"a":1,}', '{"a":1,'),
        ('{"a":01}', '{"a":0'),
        ('{"a":.5}', '{"a":'),
        ('{"a":1.}', '{"a":1.'),
        ('{"a":+1}', '{"a":'),
        ('{"a":NaN}', '{"a":'),
        ('{"a":"\n"}', '{"a":"'),
        ('{"a":"\\x"}', '{"a":"\\'),
        ('{"a":"\\u12g4"}', '{"a":"\\u12'),
        ('{"a":"\\udc00"}', '{"a":"\\ud'),
        ('{"a":"\\ud800"}', '{"a":"\\ud800'),
        ('{"a":"\\ud800\\u0041"}', '{"a":"\\ud800\\u'),
        ("{'a':1}", "{"),
        ("{a:1}", "{"),
        ('{"a" 1}', '{"a" '),
        ('{"a":[1}', '{"a":[1'),
        ('{"a":tru}', '{"a":tru'),
        ("{" + " " * 70, "{" + " " * 64),
    ],
)
def test_what_is_no_json_cannot_be_said(text: str, allowed: str) -> None:
    assert _follows(text) == (allowed, allowed == "{}")


@pytest.mark.parametrize("text", ['{"a":-0.5e+10}', '{"a":"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9"}', '{"a":{"b":[[],{}]}}'])
def test_numbers_escapes_and_nesting(text: str) -> None:
    assert _follows(text) == (text, True)


def test_deep_nesting() -> None:
    text = '{"a":' + "[" * 3000 + "]" * 3000 + "}"
    assert _follows(text) == (text, True)


def test_characters_of_several_tokens_are_whole() -> None:
    answer = _GRAMMAR.start()
    opening = _BYTES.encode('{"').ids
    first, second, third = _BYTES.encode("世").ids
    quote = _BYTES.token_to_id('"')
    for token in (*opening, first):
        answer.take(token)
    assert not answer.allowed()[[quote, _END, first]].any()
    assert answer.allowed()[second]
    answer.take(second)
    answer.take(third)
    assert answer.allowed()[quote]


def test_a_token_that_was_not_allowed_breaks_the_answer_for_good() -> None:
    answer = _GRAMMAR.start()
    with pytest.raises(GrammarBroken):
        answer.take(_BYTES.token_to_id("x"))
    with pytest.raises(GrammarBroken):
        answer.allowed()


def test_answers_of_one_grammar_do_not_see_each_other() -> None:
    first, second = _GRAMMAR.start(), _GRAMMAR.start()
    for token in _BYTES.encode("{}").ids:
        first.take(token)
    assert first.complete
    assert not second.complete
    assert not second.allowed()[_BYTES.token_to_id("}")]


_PARAMETERS: tuple[dict[str, Any], ...] = (
    {"frequency_penalty": 0.5},
    {"top_k": 8},
    {"top_p": 0.9},
    {"temperature": 0.0},
)


def _drawn(tokenizer: Tokenizer, grammar: JsonGrammar, seed: int, most: int) -> tuple[str, bool]:
    """An answer drawn from logits that know nothing; and whether it ended by itself."""
    size, random = tokenizer.get_vocab_size(), np.random.default_rng(seed)
    parameters = SamplingParameters(seed=seed, **_PARAMETERS[seed % len(_PARAMETERS)])
    sampler, said = Sampler(parameters, grammar.start()), list[int]()
    # What closes is likelier than it would be by chance, so that most answers end.
    closing = [tokenizer.token_to_id(text) for text in ('"', "}", "]", ":")]
    while len(said) < most and not sampler.complete:
        logits = random.standard_normal(size).astype(np.float32)
        logits[closing] += 5
        said.append(sampler.choose(logits, int(np.argmax(logits))))
    return tokenizer.decode(said, skip_special_tokens=False), sampler.complete


@pytest.mark.parametrize("vocabulary", ["bytes", "merged"])
def test_whatever_is_drawn_is_an_object_or_the_beginning_of_one(vocabulary: str, tmp_path: Path) -> None:
    tokenizer = _BYTES
    if vocabulary == "merged":
        tiny_llama(tmp_path)
        tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    grammar = JsonGrammar(tokenizer.to_str(), [tokenizer.get_vocab_size() - 1])
    ended = 0
    for seed in range(60):
        text, complete = _drawn(tokenizer, grammar, seed, most=200)
        if complete:
            ended += 1
            assert isinstance(json.loads(text), dict)
        else:
            with pytest.raises(json.JSONDecodeError):
                json.loads(text)
    assert ended > 20


def test_a_vocabulary_whose_bytes_are_unknown() -> None:
    with pytest.raises(UnknownTokens):
        JsonGrammar(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).to_str(), [])


def test_a_vocabulary_without_a_token_that_ends() -> None:
    answer = JsonGrammar(_BYTES.to_str(), []).start()
    for token in _BYTES.encode('{"a": "!"}').ids:
        assert answer.allowed()[token]
        answer.take(token)
    assert answer.complete


@pytest.mark.parametrize("logits", [2, 40])
def test_graphs_and_tokenizers_may_know_different_numbers_of_tokens(logits: int) -> None:
    allowed = np.array([False, True, True, False])
    left = constrained(np.arange(logits, dtype=np.float32), allowed)
    assert np.flatnonzero(np.isfinite(left)).tolist() == [1, 2][: logits - 1]


def test_a_model_that_rules_out_all_that_is_allowed() -> None:
    logits = np.full(_BYTES.get_vocab_size(), -np.inf, np.float32)
    logits[_BYTES.token_to_id("x")] = 1
    with pytest.raises(ConstraintBroken, match="rules out"):
        Sampler(SamplingParameters(), _GRAMMAR.start()).choose(logits, int(np.argmax(logits)))
