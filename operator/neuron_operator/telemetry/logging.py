"""One JSON object per line, as CloudWatch Logs reads it, with the model that the line is about."""

import json
import logging
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType

from neuron_operator.api.objects import Key

_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=MappingProxyType({}))

# What these tell at INFO is about themselves, not about models.
_CHATTERERS = ("kopf", "botocore", "urllib3")


def configure(level: int = logging.INFO) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _CHATTERERS:
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def reconciling(key: Key) -> Iterator[None]:
    """Mark what is logged inside as part of one reconcile of this model."""
    token = _about.set({"namespace": key.namespace, "name": key.name, "reconcile_id": secrets.token_hex(4)})
    try:
        yield
    finally:
        _about.reset(token)


class JSONLines(logging.Formatter):
    """Fields: time, level, logger, message; inside a reconcile namespace, name, reconcile_id; of errors a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            **_about.get(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)
