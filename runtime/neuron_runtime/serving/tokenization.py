"""What the server needs of a source snapshot: tokenizer, chat template, and which tokens end an answer.

Reads `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`, `chat_template.jinja` or
`chat_template.json`, `generation_config.json` and `config.json`, with the precedence that transformers gives them.
"""

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode

from .chat_template import ChatTemplate, ChatTemplateError
from .json_grammar import JsonGrammar, UnknownTokens

_WEIGHTS = ".safetensors"
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def is_needed(path: str) -> bool:
    """Whether a file of the snapshot is read here. Weights are not: the artifact holds them."""
    return not path.endswith(_WEIGHTS)


class PromptTooLong(Exception):
    """A text that cannot fit, seen from its length alone."""


class ModelTokenizer:
    """Text to tokens and back, for one model. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None, end_tokens: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self.end_tokens = end_tokens
        """Tokens that end an answer."""
        self._longest = max(map(len, tokenizer.get_vocab(with_added_tokens=True)), default=1)
        self._drops_space = isinstance(tokenizer.model, WordPiece)
        self._json_grammar: JsonGrammar | UnknownTokens | None = None
        self._making = threading.Lock()

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], most: int) -> list[int]:
        """The prompt's tokens. Raises ChatTemplateError; PromptTooLong when there must be more than `most` of them."""
        if self._template is None:
            raise ChatTemplateError("the model has no chat template, so it cannot take part in a chat")
        # The template writes the special tokens itself.
        return self._encode(self._template.render(messages), most, special=False)

    def encode_text(self, text: str, most: int, *, special: bool) -> list[int]:
        """A text's tokens, with those that texts of this model begin or end with if `special`. Raises PromptTooLong."""
        return self._encode(text, most, special=special)

    def _encode(self, text: str, most: int, *, special: bool) -> list[int]:
        # A megabyte of text takes seconds, whatever becomes of its tokens.
        length = sum(map(len, text.split())) if self._drops_space else len(text)
        if length > most * self._longest:
            raise PromptTooLong
        # Of the library's ways to encode this is the one that lets other threads run meanwhile.
        tokens: list[int] = self._tokenizer.encode_batch_fast([text], add_special_tokens=special)[0].ids
        return tokens

    def json_grammar(self) -> JsonGrammar:
        """The grammar of answers that are JSON, made when it is first asked for. Raises UnknownTokens."""
        with self._making:
            if self._json_grammar is None:
                self._json_grammar = self._make_json_grammar()
        if isinstance(self._json_grammar, UnknownTokens):
            raise self._json_grammar
        return self._json_grammar

    def _make_json_grammar(self) -> JsonGrammar | UnknownTokens:
        known = self._tokenizer.get_vocab_size(with_added_tokens=True)
        if max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0) >= known:
            # The library takes ids to be counted through.
            return UnknownTokens("their ids have gaps")
        try:
            return JsonGrammar(self._tokenizer.to_str(), (token for token in self.end_tokens if token < known))
        except UnknownTokens as error:
            return error

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True)

    def text_of(self, token: int) -> str:
        """The text of one token, by itself; that of special ones too."""
        return self._tokenizer.decode([token], skip_special_tokens=False)


def load_tokenizer(folder: Path) -> ModelTokenizer:
    """Read a snapshot's tokenizer. Raises ContainerFailure(UNSUPPORTED_MODEL) naming the file that does not do."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ContainerFailure(
            FailureCode.UNSUPPORTED_MODEL,
            "the model has no tokenizer.json; save its tokenizer with a fast tokenizer of transformers",
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library's Rust code raises plain Exception
        raise ContainerFailure(FailureCode.UNSUPPORTED_MODEL, f"tokenizer.json cannot be read: {error}") from error
    # A saved tokenizer may cut or fill up what it encodes, as its training wanted it.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    config = {**_document(folder / "special_tokens_map.json"), **_document(folder / "tokenizer_config.json")}
    special = dict(_special_tokens(config))
    return ModelTokenizer(
        tokenizer,
        _template(folder, config, special),
        frozenset(_end_tokens(folder, tokenizer, special)),
    )


def _document(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ContainerFailure(FailureCode.UNSUPPORTED_MODEL, f"{path.name} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ContainerFailure(FailureCode.UNSUPPORTED_MODEL, f"{path.name} is not a JSON object")
    return document


def _special_tokens(config: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Special tokens by role; a token is written as a string, or as an object with its `content`."""
    for role in _SPECIAL_TOKENS:
        token = config.get(role)
        if isinstance(token, Mapping):
            token = token.get("content")
        if isinstance(token, str):
            yield role, token


def _template(folder: Path, config: Mapping[str, Any], special: Mapping[str, str]) -> ChatTemplate | None:
    file = folder / "chat_template.jinja"
    source = file.read_text("utf-8") if file.is_file() else None
    source = source or _document(folder / "chat_template.json").get("chat_template") or config.get("chat_template")
    if isinstance(source, list):
        named = {entry.get("name"): entry.get("template") for entry in source}
        source = named.get("default")
    if not isinstance(source, str):
        return None
    try:
        return ChatTemplate(source, special)
    except ChatTemplateError as error:
        raise ContainerFailure(FailureCode.UNSUPPORTED_MODEL, str(error)) from error


def _end_tokens(folder: Path, tokenizer: Tokenizer, special: Mapping[str, str]) -> Iterable[int]:
    for name in ("generation_config.json", "config.json"):
        declared = _document(folder / name).get("eos_token_id")
        if declared is not None:
            yield from declared if isinstance(declared, list) else [declared]
            break
    # Chat models are often fine-tuned to end turns with a token that only the tokenizer's configuration names.
    token = tokenizer.token_to_id(special["eos_token"]) if "eos_token" in special else None
    if token is not None:
        yield token
