"""One line per record, with the model that it is about."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_about: ContextVar[str] = ContextVar("about", default="-")

_FORMAT = "%(asctime)s %(levelname)s %(name)s [%(about)s] %(message)s"


def configure(level: int = logging.INFO) -> None:
    """Log to standard error. What libraries say below warnings is about themselves, and left out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.addFilter(_add_about)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for library in ("kopf", "botocore", "aiohttp"):
        logging.getLogger(library).setLevel(logging.WARNING)


@contextmanager
def about(what: str) -> Iterator[None]:
    """Mark the records of this context with the object that they are about."""
    token = _about.set(what)
    try:
        yield
    finally:
        _about.reset(token)


def _add_about(record: logging.LogRecord) -> bool:
    record.about = _about.get()
    return True
