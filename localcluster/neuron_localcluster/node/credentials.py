"""AWS credentials per ServiceAccount, handed out as EKS Pod Identity does: over HTTP, against a token of the pod."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from aiohttp import web

from neuron_localcluster.node import clock

_PATH = "/v1/credentials"
_VALID_FOR = datetime.timedelta(hours=1)
_ID_CHARACTERS = 16


@dataclass(frozen=True)
class AccessKeys:
    key_id: str
    secret: str


@dataclass(frozen=True)
class Identity:
    namespace: str
    service_account: str


def access_keys(namespace: str, service_account: str) -> AccessKeys:
    """The keys of a ServiceAccount: always the same, so that an AWS stand-in can be told them beforehand."""
    digest = hashlib.sha256(f"{namespace}/{service_account}".encode()).digest()
    key_id = "AKIA" + base64.b32encode(digest)[:_ID_CHARACTERS].decode("ascii")
    secret = hmac.new(b"neuron-localcluster", digest, hashlib.sha256).digest()
    return AccessKeys(key_id, base64.b64encode(secret)[:40].decode("ascii"))


class CredentialServer:
    """The endpoint on loopback, and which token belongs to whom."""

    def __init__(self) -> None:
        self._identities: dict[str, Identity] = {}
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """What AWS_CONTAINER_CREDENTIALS_FULL_URI is to be."""
        return f"http://127.0.0.1:{self._port}{_PATH}"

    def issue(self, identity: Identity) -> str:
        """A new token for one pod."""
        token = secrets.token_urlsafe(32)
        self._identities[token] = identity
        return token

    def revoke(self, token: str) -> None:
        self._identities.pop(token, None)

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get(_PATH, self._answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        identity = self._identities.get(request.headers.get("Authorization", ""))
        if identity is None:
            return web.json_response({"message": "no pod has this authorization token"}, status=401)
        keys = access_keys(identity.namespace, identity.service_account)
        return web.json_response(
            {
                "AccessKeyId": keys.key_id,
                "SecretAccessKey": keys.secret,
                # Required by the protocol; the keys are those of a user and need no session.
                "Token": "",
                "Expiration": clock.seconds_text(clock.now() + _VALID_FOR),
            }
        )
