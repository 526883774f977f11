"""Asks the model a question through the OpenAI API, and shows the tokens as they come."""

from __future__ import annotations

import importlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from demo.failure import DemoFailed
from demo.screen import Screen

if TYPE_CHECKING:
    import openai

QUESTION = "What is gravity?"
_MAX_TOKENS = 120
_CLIENT = "openai.resources.chat.completions"


@dataclass(frozen=True)
class Answer:
    """What was measured: seconds to the first token, tokens, and seconds from the first token to the last."""

    first_token: float
    tokens: int
    generation: float

    def __str__(self) -> str:
        rate = (self.tokens - 1) / self.generation if self.generation > 0 and self.tokens > 1 else 0.0
        return (
            f"{self.tokens} tokens, the first after {self.first_token * 1000:.0f} ms, then {rate:.0f} tokens per second"
        )


def prepare() -> None:
    """Import the client, which takes seconds, while other things are being waited for."""
    threading.Thread(target=importlib.import_module, args=(_CLIENT,), daemon=True).start()


def ask(address: str, model: str, screen: Screen) -> Answer:
    """Stream the answer to QUESTION; raises DemoFailed when the API refuses or breaks off."""
    import openai

    screen.begin("Asking")
    with (
        httpx.Client(timeout=60.0, trust_env=False) as http,
        openai.OpenAI(base_url=address, api_key="unused", http_client=http, max_retries=0) as client,
    ):
        try:
            return _stream(client, model, screen)
        except openai.OpenAIError as error:
            raise DemoFailed(f"{address}/chat/completions: {error}") from error


def _stream(client: openai.OpenAI, model: str, screen: Screen) -> Answer:
    # The client makes this at its first use; it is no part of the model's time.
    completions = client.chat.completions
    began = time.monotonic()
    first: float | None = None
    tokens = 0
    stream = completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=_MAX_TOKENS,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        text = chunk.choices[0].delta.content if chunk.choices else None
        if text:
            if first is None:
                first = time.monotonic()
                screen.end("first token")
                screen.text(f"\n  > {QUESTION}\n")
                screen.raw("  ")
            screen.raw(text.replace("\n", "\n  "))
        if chunk.usage:
            tokens = chunk.usage.completion_tokens
    if first is None:
        raise DemoFailed("the answer was empty")
    screen.text("\n")
    return Answer(first - began, tokens, time.monotonic() - first)
