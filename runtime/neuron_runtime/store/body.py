"""The body of an answer from S3, read straight into the caller's memory.

urllib3 has no way to do so: it reads into memory of its own and copies, which costs a tenth of the throughput. So, as
botocore itself does for timeouts, this reaches through to the response of the standard library's client below, and
does without where a release of urllib3 holds none.
"""

import http.client
from typing import Any

from botocore.exceptions import BotoCoreError
from botocore.response import StreamingBody
from urllib3.exceptions import HTTPError


class BrokenOff(Exception):
    """The connection ended, or went silent, before the body did."""


class AnswerBody:
    """To be closed; a connection whose body was read to its end is used again."""

    def __init__(self, body: StreamingBody) -> None:
        self._body = body
        self._raw: Any = getattr(body, "_raw_stream", None)
        plain = getattr(self._raw, "_fp", None)
        self._plain = plain if isinstance(plain, http.client.HTTPResponse) else None

    def readinto(self, buffer: memoryview) -> int:
        """Read at least one byte; as many as `buffer` takes, in general. Raises BrokenOff."""
        reader: Any = self._plain or self._body
        try:
            size: int = reader.readinto(buffer)
        except (BotoCoreError, HTTPError, OSError, http.client.HTTPException) as error:
            raise BrokenOff(f"the answer broke off: {error}") from error
        if size == 0:
            raise BrokenOff("the connection was closed before the end of the answer")
        return size

    def close(self) -> None:
        """Give the connection back, or close it when there is still something to come on it."""
        if self._plain is not None and (self._plain.isclosed() or self._plain.length == 0):
            self._plain.close()
            self._raw.release_conn()
        self._body.close()
