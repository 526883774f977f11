"""Questions of an exact length in tokens, so that every contestant gets equally long prompts, alone and in batches."""

from __future__ import annotations

from collections.abc import Callable

_SUBJECTS = (
    "the sea",
    "a long winter",
    "two brothers",
    "an old mill",
    "the city at night",
    "a lost letter",
    "the first train",
    "a garden",
)


def questions(count: int, tokens: int, length: Callable[[str], int]) -> list[str]:
    """Different questions whose prompts have so many tokens; `length` counts those of a question's whole prompt.

    Raises ValueError where that cannot be had: the tokenizers here give every digit a token of its own, and digits fill
    up what is missing.
    """
    return [_question(number, tokens, length) for number in range(count)]


def _question(number: int, tokens: int, length: Callable[[str], int]) -> str:
    subject = _SUBJECTS[number % len(_SUBJECTS)]

    def ask(digits: int) -> str:
        return f"Tell a very long story about {subject}. Its number is {str(number).zfill(digits)}"

    shortest = len(str(number))
    question = ask(shortest + tokens - length(ask(shortest)))
    if length(question) != tokens:
        raise ValueError(f"no question of {tokens} tokens: it has {length(question)}")
    return question
