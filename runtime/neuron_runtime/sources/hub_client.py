"""huggingface_hub, set up for a container: caches on the volume, quiet about secrets, patient within bounds.

It reads its settings (`HF_ENDPOINT`, caches, telemetry) from the environment when it is imported: so it is imported
only after `prepare`.
"""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from .hub_failures import RateLimited, without_queries

T = TypeVar("T")

_TOO_MANY_REQUESTS = 429


def prepare(cache: Path) -> None:
    """Place the library's caches, since the root file system is read-only, and keep it from phoning and from telling.

    Its own way with a 429 is to sleep for as long as the hub says, a day if need be: here it is raised, and the caller
    decides (`Patience`).
    """
    os.environ.setdefault("HF_HOME", str(cache))
    os.environ.setdefault("HF_XET_CACHE", str(cache / "xet"))
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # A token is what our document asks for, or none: none that happens to lie around, and none in the debug log.
    os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"  # noqa: S105 - the name of a variable
    os.environ.pop("HF_DEBUG", None)
    # The library's HTTP client logs every address, and those of downloads are signed: whoever has one may read.
    for library in ("httpx", "httpx2"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # The library itself does so when it tries again.
    for name in ("huggingface_hub.file_download", "huggingface_hub.utils._http"):
        logging.getLogger(name).addFilter(_unsign)

    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    def client() -> Any:
        made = _http.default_client_factory()
        hooks = made.event_hooks
        made.event_hooks = {**hooks, "response": [*hooks.get("response", ()), _raise_rate_limit]}
        return made

    set_client_factory(client)


class Patience:
    """How long a hub's 429 and failures are waited for: each pause, and all of them together."""

    def __init__(self, longest_pause: float, total: float, sleep: Callable[[float], None] = time.sleep) -> None:
        self._longest_pause = longest_pause
        self._remaining = total
        self._sleep = sleep

    def run(self, call: Callable[[], T], is_passing: Callable[[Exception], bool], attempts: int = 3) -> T:
        """The call's answer. A 429 is waited for as long as asked; `is_passing` errors are tried `attempts` times.

        Raises the call's last error.
        """
        failures = 0
        while True:
            try:
                return call()
            except RateLimited as error:
                failures += 1
                if not self._wait(error.after if error.after is not None else 2.0**failures):
                    raise
            except Exception as error:
                failures += 1
                if not is_passing(error) or failures >= attempts or not self._wait(0.5 * 2**failures):
                    raise

    def _wait(self, seconds: float) -> bool:
        if seconds > min(self._longest_pause, self._remaining):
            return False
        self._remaining -= max(seconds, 1.0)
        self._sleep(seconds)
        return True


def _raise_rate_limit(response: Any) -> None:
    if response.status_code == _TOO_MANY_REQUESTS:
        raise RateLimited(_retry_after(response))


def _retry_after(response: Any) -> int | None:
    from huggingface_hub.utils import _http

    # Early releases know the older header alone.
    parse = getattr(_http, "parse_ratelimit_headers", None)
    limit = parse(response.headers) if parse is not None else None
    if limit is not None and limit.remaining == 0:
        return int(limit.reset_in_seconds)
    text = response.headers.get("Retry-After", "").strip()
    # A date is as good as nothing: it is asked again with growing pauses.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _unsign(record: logging.LogRecord) -> bool:
    record.msg, record.args = without_queries(record.getMessage()), None
    return True
