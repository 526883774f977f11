"""What a load client is told, and what it answers: both are JSON between processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Question:
    """One streamed chat completion."""

    text: str
    max_tokens: int


@dataclass(frozen=True)
class Load:
    """Questions that so many streams ask, each its next one as soon as it has the answer to the last."""

    port: int
    model: str
    streams: int
    questions: tuple[Question, ...]
    timeout_seconds: float
    """For all of them together."""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Load:
        """What `document` made, after JSON."""
        questions = tuple(Question(**question) for question in document["questions"])
        return cls(**{**document, "questions": questions})


@dataclass(frozen=True)
class Answer:
    """One question's answer as the client saw it; times in seconds on the client's clock."""

    sent: float
    texts: tuple[float, ...]
    """When each piece of text came."""
    ended: float
    prompt_tokens: int
    tokens: int
    error: str | None = None


@dataclass(frozen=True)
class LoadResult:
    """All answers, in the order of the questions."""

    answers: tuple[Answer, ...]
    busy_share: float
    """CPU time of the client over wall-clock time: near 1, the client would be what is measured."""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> LoadResult:
        """What `document` made, after JSON."""
        answers = tuple(Answer(**{**answer, "texts": tuple(answer["texts"])}) for answer in document["answers"])
        return cls(answers, document["busy_share"])


def body(model: str, question: Question) -> dict[str, Any]:
    """The request's body, as OpenAI's API has it."""
    messages: Sequence[Mapping[str, str]] = [{"role": "user", "content": question.text}]
    return {
        "model": model,
        "messages": messages,
        "max_tokens": question.max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
