"""Puts the folders of this machine in the place of the paths that a container would see. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

# A path that follows one of these goes on from something else: `s3://bucket/tmp`, `${HOME}/tmp`, `~/tmp`.
_BEFORE = r"(?<![\w./~@%+*})-])"
_AFTER = r"(?![\w.~@%+-])"


class Paths:
    """The paths that one container sees, each with the folder or file that it stands for."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._places = {seen.rstrip("/"): str(place) for seen, place in places.items() if seen.rstrip("/")}
        longest_first = sorted(self._places, key=len, reverse=True)
        seen = "|".join(re.escape(path) for path in longest_first)
        # `file:///tmp` is the one place where a path may follow a slash.
        self._pattern = re.compile(f"(file://|{_BEFORE})({seen}){_AFTER}") if seen else None

    def localize(self, text: str) -> str:
        """The text with every such path replaced, the longest that fits, and only whole path components."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: match[1] + self._places[match[2]], text)
