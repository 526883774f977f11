"""Holds answers to JSON: which tokens may follow, whatever the model would rather say.

The grammar is that of one JSON object, with nothing before or after it and little white space within. llguidance reads
it, and compares it with the bytes of all tokens of a vocabulary at once.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .sampling import ConstraintBroken

if TYPE_CHECKING:
    import llguidance

# All of RFC 8259 but two things. A model that would end, and may not yet, likes to go on with white space: it is not to
# fill the context with it. And halves of surrogate pairs are no characters.
_GRAMMAR = r"""
start: object
object: "{" SPACE? (member ("," SPACE? member)*)? "}"
member: STRING SPACE? ":" SPACE? value
array: "[" SPACE? (value ("," SPACE? value)*)? "]"
value: (object | array | STRING | NUMBER | "true" | "false" | "null") SPACE?
SPACE: /[ \n\r\t]{1,64}/
NUMBER: /-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/
STRING: "\"" CHARACTER* "\""
CHARACTER: /[^"\\\x00-\x1f]/ | "\\" (/["\\\/bfnrt]/ | "u" (UNIT | HIGH "\\u" LOW))
UNIT: /[0-9abcefABCEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}/
HIGH: /[dD][89abAB][0-9a-fA-F]{2}/
LOW: /[dD][c-fC-F][0-9a-fA-F]{2}/
"""
_SILENT = 0


class UnknownTokens(Exception):
    """It cannot be told which bytes the tokens of a vocabulary stand for."""


class GrammarBroken(ConstraintBroken):
    """An answer left its grammar, or the grammar its limits."""


class JsonGrammar:
    """One vocabulary's grammar. Takes half a second to make for 50,000 tokens, and 30 MiB. Thread-safe."""

    def __init__(self, tokenizer: str, end_tokens: Iterable[int]) -> None:
        """`tokenizer` is what tokenizer.json holds. Raises UnknownTokens."""
        # Importing it takes a tenth of a second of every server's start, and few are ever asked for JSON.
        import llguidance

        ends = sorted(end_tokens)
        try:
            vocabulary = llguidance.LLTokenizer(tokenizer, eos_token=ends or None)
        except ValueError as error:
            raise UnknownTokens(str(error)) from error
        self._matcher = llguidance.LLMatcher(vocabulary, _GRAMMAR, log_level=_SILENT)

    def start(self) -> "JsonAnswer":
        """Begin an answer; takes microseconds."""
        return JsonAnswer(self._matcher.deep_copy())


class JsonAnswer:
    """An answer that becomes a JSON object. One thread at a time may call it."""

    def __init__(self, matcher: "llguidance.LLMatcher") -> None:
        self._matcher = matcher

    def allowed(self) -> npt.NDArray[np.bool_]:
        """bool[tokens of the vocabulary, filled up to a multiple of 32]: what may follow. Raises GrammarBroken."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        return np.unpackbits(bits, bitorder="little").view(np.bool_)

    def take(self, token: int) -> None:
        """This token follows. Raises GrammarBroken."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def complete(self) -> bool:
        """Whether the object is closed; nothing may follow."""
        return self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GrammarBroken(self._matcher.stop_reason())
