"""The verbs of the Kubernetes API that the operator uses, with plain dicts in and out.

Every failure becomes one of `neuron_operator.errors`. Each write first asks the fence whether this replica may still
write by the time that the request can take at most.
"""

import json
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

from kubernetes.aio.client import ApiClient, Configuration

from neuron_operator.api.objects import Key, Kind, Manifest, is_deleting, key_of, kind_of, uid_of
from neuron_operator.errors import Conflict

from .access import ClusterAccess
from .failures import AnswerNotFound, parse_success, raise_for_answer, translated

_FIELD_MANAGER = "neuron-operator"

_TIMEOUT_SECONDS = 4.0
# A LIST of thousands of objects is no quick request; it writes nothing, so no lease bounds it.
_LIST_TIMEOUT_SECONDS = 60.0
_CONNECTIONS = 32

Manifests = list[Manifest]
Fence = Callable[[float], None]


def no_fence(seconds: float) -> None:
    """Every write may go: for what is not guarded by the lease, such as the lease itself."""


class Gateway:
    """An API server. Use as an asynchronous context manager, so that connections are closed."""

    def __init__(self, access: ClusterAccess, *, fence: Fence = no_fence) -> None:
        self._access = access
        self._fence = fence
        configuration = Configuration(host=access.server)
        configuration.ssl_ca_cert = access.ca_file
        configuration.ca_cert_data = access.ca_data
        configuration.cert_file = access.certificate_file
        configuration.key_file = access.key_file
        configuration.verify_ssl = not access.insecure
        configuration.connection_pool_maxsize = _CONNECTIONS
        configuration.client_session_kwargs = {"trust_env": access.is_behind_proxy()}
        self._client = ApiClient(configuration)

    async def __aenter__(self) -> "Gateway":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    async def list(self, kind: Kind, *, namespace: str | None = None, label_selector: str = "") -> Manifests:
        """All objects of a kind, of all namespaces unless one is named."""
        query = {"labelSelector": label_selector} if label_selector else {}
        answer = await self._call("GET", _path(kind, namespace), query=query, timeout=_LIST_TIMEOUT_SECONDS)
        identity = {"apiVersion": kind.api_version, "kind": kind.name}
        return [_clean({**identity, **item}) for item in answer["items"]]

    async def get(self, kind: Kind, key: Key) -> Manifest | None:
        """Read one object; None when there is none."""
        try:
            return _clean(await self._call("GET", _path(kind, *key)))
        except AnswerNotFound:
            return None

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object. Raises AlreadyExists.

        The manifest goes as YAML, which JSON is: the API server brings that into its canonical form. Of JSON it keeps
        the bytes of free-form fields (a ControllerRevision's data), and then refuses every patch of the object, because
        it writes the same data in other bytes.
        """
        path = _path(kind_of(manifest), key_of(manifest).namespace)
        body = json.dumps(manifest, ensure_ascii=False).encode()
        query = {"fieldManager": _FIELD_MANAGER}
        return _clean(await self._write("POST", path, body, query, content_type="application/yaml"))

    async def apply(self, manifest: Manifest) -> Manifest:
        """Apply server-side: the given fields are ours from then on, whoever set them before."""
        query = {"fieldManager": _FIELD_MANAGER, "force": "true"}
        path = _path(kind_of(manifest), *key_of(manifest))
        return _clean(await self._write("PATCH", path, manifest, query, content_type="application/apply-patch+yaml"))

    async def merge(self, live: Manifest, changes: Manifest) -> Manifest:
        """Merge changes into an object as it was read; lists are replaced as a whole. Raises Conflict."""
        unchanged = {name: live["metadata"][name] for name in ("uid", "resourceVersion")}
        path, query = _path(kind_of(live), *key_of(live)), {"fieldManager": _FIELD_MANAGER}
        body = {**changes, "metadata": {**changes.get("metadata", {}), **unchanged}}
        return _clean(await self._write("PATCH", path, body, query, content_type="application/merge-patch+json"))

    async def replace(self, manifest: Manifest) -> Manifest:
        """Replace an object at its resourceVersion. Raises Conflict, also when it is gone by now."""
        return await self._replace(_path(kind_of(manifest), *key_of(manifest)), manifest)

    async def replace_status(self, manifest: Manifest) -> Manifest:
        """Replace the status of an object at its resourceVersion. Raises Conflict, also when it is gone by now."""
        return await self._replace(f"{_path(kind_of(manifest), *key_of(manifest))}/status", manifest)

    async def delete(self, kind: Kind, key: Key, *, uid: str, propagation: str = "Background") -> Manifest | None:
        """Delete an object if it still is the one with this UID; one that is gone, or another one, is left alone.

        Returns the object when it is still there, on its way out, and None when nothing of this UID is left. Raises
        Conflict when it is there because something else than its UID stood against that.
        """
        options = {"propagationPolicy": propagation, "preconditions": {"uid": uid}}
        try:
            answer = await self._write("DELETE", _path(kind, *key), options, {})
        except AnswerNotFound:
            return None
        except Conflict:
            # As a rule another object has the name by now. But an admission webhook may answer so, too.
            live = await self.get(kind, key)
            if live is not None and uid_of(live) == uid:
                raise
            return None
        return _clean(answer) if answer["kind"] == kind.name and is_deleting(answer) else None

    async def _replace(self, path: str, manifest: Manifest) -> Manifest:
        try:
            return _clean(await self._write("PUT", path, manifest, {"fieldManager": _FIELD_MANAGER}))
        except AnswerNotFound as error:
            raise Conflict(f"{error}") from error

    async def _write(
        self, method: str, path: str, body: Any, query: dict[str, str], content_type: str = "application/json"
    ) -> Any:
        self._fence(_TIMEOUT_SECONDS)
        return await self._call(method, path, query=query, body=body, content_type=content_type)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = _TIMEOUT_SECONDS,
    ) -> Any:
        url = f"{self._access.server}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": _FIELD_MANAGER}
        with translated(f"{method} {path}"):
            token = self._access.current_token()
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            answer = await self._client.call_api(method, url, headers, body, _request_timeout=timeout)
            text = await answer.read()  # type: ignore[no-untyped-call]
        raise_for_answer(method, path, answer.status, text, answer.headers.get("Retry-After"))
        return parse_success(f"{method} {path}", text)


def _path(kind: Kind, namespace: str | None = None, name: str | None = None) -> str:
    root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
    parts = [root]
    if namespace is not None:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(kind.plural)
    if name is not None:
        parts.append(quote(name, safe=""))
    return "/".join(parts)


def _clean(manifest: Manifest) -> Manifest:
    manifest["metadata"].pop("managedFields", None)
    return manifest
