"""What goes wrong on the way from a hub, as failures with a code and the remedy. No token and no signature is told."""

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from neuron_runtime.contract.origin import SecretKey
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode

# Releases of the library differ in which HTTP client they use.
_LIBRARIES = frozenset({"huggingface_hub", "hf_xet", "httpx", "httpx2"})
_QUERY = re.compile(r"(https?://[^\s?'\"<>]+)\?[^\s'\"<>]*")
_LONGEST_RETRY_SECONDS = 3600


class RateLimited(Exception):
    """The hub answered 429. `after` is the wait in seconds that it asked for, if it did."""

    def __init__(self, after: int | None) -> None:
        super().__init__("429 Too Many Requests")
        self.after = after


@dataclass(frozen=True)
class Asked:
    """What was asked for, of whom, and by whom: what messages about it say."""

    repo: str
    revision: str
    hub: str
    secret: SecretKey | None
    """Where the token came from; None for an anonymous reader."""
    redact: Callable[[str], str]
    """Takes tokens out of a text."""

    @property
    def name(self) -> str:
        """Repository and revision."""
        return f"{self.repo}@{self.revision}"

    @property
    def _token(self) -> str:
        assert self.secret is not None  # noqa: S101 - asked only where there is one
        return f"the token in key {self.secret.key} of Secret {self.secret.secret}"

    def gated(self) -> ContainerFailure:
        """The repository's conditions were not accepted by whoever asks."""
        page = f"{self.hub}/{self.repo}"
        if self.secret is None:
            finding = (
                f"{self.name} on {self.hub} is gated, so it cannot be read anonymously: accept its conditions at "
                f"{page}, and set spec.model.huggingFace.tokenSecretRef to a token of the account that did"
            )
        else:
            finding = (
                f"{self.name} on {self.hub} is gated, and {self._token} was not granted access: accept its conditions "
                f"at {page} with that account; a fine-grained token also needs the right to read gated repositories"
            )
        return ContainerFailure(FailureCode.SOURCE_ACCESS_DENIED, finding)

    def not_found(self) -> ContainerFailure:
        """There is no such repository for whoever asks; a hub does not tell a private one from none."""
        check = "check spec.model.huggingFace.repo"
        if self.secret is None:
            finding = (
                f"{self.name} does not exist on {self.hub}, or is private: {check}; for a private one set "
                "spec.model.huggingFace.tokenSecretRef"
            )
        else:
            finding = (
                f"{self.name} does not exist on {self.hub}, or {self._token} may not read it: {check}, and that the "
                "token's owner is a member and a fine-grained token names the repository"
            )
        return ContainerFailure(FailureCode.SOURCE_NOT_FOUND, finding)

    def no_revision(self) -> ContainerFailure:
        """The repository is there, the revision is not."""
        return ContainerFailure(
            FailureCode.SOURCE_NOT_FOUND,
            f"{self.repo} on {self.hub} has no revision {self.revision}; check spec.model.huggingFace.revision",
        )

    def refused(self, status: int) -> ContainerFailure:
        """401 or 403 without a word about the repository."""
        if self.secret is None:
            finding = (
                f"{self.hub} refused to give {self.name} to an anonymous reader ({status}); set "
                "spec.model.huggingFace.tokenSecretRef"
            )
        elif status == 401:
            finding = f"{self.hub} does not accept {self._token} ({status}): it is invalid or has expired; replace it"
        else:
            finding = (
                f"{self.hub} refused to give {self.name} to the owner of {self._token} ({status}): the token lacks the "
                "right to read the repository's contents"
            )
        return ContainerFailure(FailureCode.SOURCE_ACCESS_DENIED, finding)

    def rate_limited(self, after: int | None) -> ContainerFailure:
        """429, for longer than we wait."""
        when = f" for {after} seconds" if after is not None else ""
        hint = "" if self.secret is not None else "; a token in spec.model.huggingFace.tokenSecretRef raises the limit"
        bounded = None if after is None else min(after, _LONGEST_RETRY_SECONDS)
        return ContainerFailure(
            FailureCode.SOURCE_RATE_LIMITED,
            f"{self.hub} limits the rate of requests (429){when}; {self.name} is asked for again later{hint}",
            bounded,
        )

    def unreachable(self, finding: str) -> ContainerFailure:
        """The hub, or the way to it, failed."""
        return ContainerFailure(
            FailureCode.SOURCE_UNREACHABLE,
            self.redact(
                f"{self.name} cannot be read from {self.hub}: {finding}; check egress, proxy and the endpoint "
                "(spec.model.huggingFace.endpoint, HF_ENDPOINT)"
            ),
        )

    def failure(self, error: Exception) -> ContainerFailure | None:
        """The failure that an error on the way from the hub stands for; None for errors of another kind."""
        from huggingface_hub import errors

        if isinstance(error, ContainerFailure):
            return error
        if isinstance(error, RateLimited):
            return self.rate_limited(error.after)
        if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
            return self.failure(error.__cause__)
        if isinstance(error, errors.GatedRepoError):
            return self.gated()
        if isinstance(error, errors.RevisionNotFoundError):
            return self.no_revision()
        if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
            # The library takes every 401 of an https hub for this one.
            return self.refused(401) if self._is_bad_token(error) else self.not_found()
        if isinstance(error, errors.RemoteEntryNotFoundError):
            return ContainerFailure(
                FailureCode.SOURCE_CHANGED,
                self.redact(f"a file that {self.hub} lists for {self.name} is gone: {without_queries(str(error))}"),
            )
        status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
        if status in (401, 403):
            return self.refused(status)
        if "os error 28" in str(error):
            # hf_xet's words for a full disk, in a RuntimeError.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        if not _is_of_the_way(error):
            return None
        return self.unreachable(f"{type(error).__name__}: {without_queries(str(error))}")

    def _is_bad_token(self, error: Exception) -> bool:
        response = getattr(error, "response", None)
        if self.secret is None or response is None:
            return False
        return response.status_code == 401 and response.headers.get("X-Error-Code") is None


def _is_of_the_way(error: Exception) -> bool:
    """Whether hub, network or the library in between failed, and not this machine or our own code."""
    if any(kind.__module__.partition(".")[0] in _LIBRARIES for kind in type(error).__mro__):
        return True
    if isinstance(error, OSError):
        # The library raises bare ones for bodies of another length than announced.
        return error.errno is None or isinstance(error, ConnectionError | TimeoutError)
    # hf_xet has no class of its own for most of its errors.
    return isinstance(error, RuntimeError)


def without_queries(text: str) -> str:
    """A text whose addresses have lost their queries, where signatures are."""
    return _QUERY.sub(r"\1?...", text)
