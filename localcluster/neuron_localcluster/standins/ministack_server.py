"""Runs ministack with one repair: a byte range of a persisted object is read without reading all of the object.

As published it reads the whole file for every range. Readers that fetch 500 MB in ranges of 16 MB would wait for 16 GB.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ministack import app  # type: ignore[import-untyped]
from ministack.services import s3  # type: ignore[import-untyped]

_wants_range: ContextVar[bool] = ContextVar("wants_range", default=False)


def get_object(original: Callable[..., Any]) -> Callable[..., Any]:
    """ministack's GetObject, noting for `read_body` whether the request names a range."""

    def get(bucket: str, key: str, headers: dict[str, str], query: dict[str, Any] | None = None) -> Any:
        noted = _wants_range.set("range" in headers)
        try:
            return original(bucket, key, headers, query)
        finally:
            _wants_range.reset(noted)

    return get


def read_body(original: Callable[..., Any]) -> Callable[..., Any]:
    """The object's bytes, or for a range a mapping of its file: GetObject takes a slice, which are bytes again."""

    def read(bucket: str, key: str, stored: dict[str, Any]) -> Any:
        path = s3._object_disk_path(bucket, key) if _wants_range.get() and stored.get("body") is None else None
        if path is None:
            return original(bucket, key, stored)
        try:
            with Path(path).open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            # Gone, or empty, which cannot be mapped.
            return original(bucket, key, stored)

    return read


def main() -> None:
    """Serve until a signal ends it, as set up in the environment."""
    s3._get_object = get_object(s3._get_object)
    s3._read_body = read_body(s3._read_body)
    app.main()


if __name__ == "__main__":
    main()
