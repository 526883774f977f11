"""What surrounds the containers of one pod: address, folder, volumes, credentials; how each container is launched."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from neuron_localcluster.node import environment, kubeconfig, volumes
from neuron_localcluster.node.addresses import AddressPool
from neuron_localcluster.node.api import APIClient, APIError
from neuron_localcluster.node.config import AgentConfig, NodeConfig
from neuron_localcluster.node.credentials import CredentialServer, Identity
from neuron_localcluster.node.environment import ConfigError, Objects, PodFacts
from neuron_localcluster.node.folders import PodFolder
from neuron_localcluster.node.memory import MemoryGuard
from neuron_localcluster.node.process import Launch, program
from neuron_localcluster.node.state import Manifest
from neuron_localcluster.node.substitution import Paths
from neuron_localcluster.node.volumes import TokenRequest
from neuron_localcluster.processes import OWNER_VARIABLE
from neuron_localcluster.record import Image

_log = logging.getLogger(__name__)

HOST_IP = "127.0.0.1"
_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFAULT_REGION = "us-east-1"
_REFRESH_SECONDS = 60.0
# The kubelet asks for a new token when 80 % of the old one's life are over.
_TOKEN_LIFE_USED = 0.8


@dataclass(frozen=True)
class Shared:
    """What all pods of the agent share."""

    config: AgentConfig
    api: APIClient
    credentials: CredentialServer
    addresses: AddressPool
    memory: MemoryGuard


class Sandbox:
    """One pod's surroundings; `close` gives back what it holds. Folder and logs stay until the pod object goes."""

    def __init__(self, shared: Shared, node: NodeConfig, pod: Manifest) -> None:
        self.pod = pod
        self.folder = PodFolder(shared.config.state_dir, pod["metadata"]["uid"])
        self.ip = shared.addresses.take((pod.get("status") or {}).get("podIP", ""))
        self.shared = shared
        self.grace: float = pod["spec"].get("terminationGracePeriodSeconds", 30)
        self._facts = PodFacts(self.ip, HOST_IP, node.capacity)
        self._namespace: str = pod["metadata"]["namespace"]
        self._service_account: str = pod["spec"].get("serviceAccountName", "default")
        self._tokens: dict[TokenRequest, tuple[str, float]] = {}
        self._volumes_ready = False
        self._writing = asyncio.Lock()
        self._credential_token = shared.credentials.issue(Identity(self._namespace, self._service_account))

    def close(self) -> None:
        self.shared.addresses.give_back(self.ip)
        self.shared.credentials.revoke(self._credential_token)

    def image(self, container: Manifest) -> Image | None:
        """What the container's image stands for, None when it is not in the table."""
        return self.shared.config.images.get(container["image"])

    async def launch(self, container: Manifest, image: Image) -> Launch:
        """How to run the container now.

        Raises ConfigError while something it needs is missing, StartError when its program cannot be run.
        """
        _refuse_unsupported(container)
        await self._ensure_volumes()
        places = volumes.mount_places(container, self.folder.volumes)
        own = self.folder.container(container["name"])
        own.prepare()
        for place in places.values():
            if not place.exists():
                place.mkdir(parents=True)
        message_path = container.get("terminationMessagePath", "/dev/termination-log")
        paths = Paths({**places, message_path: own.termination_message})
        objects = await self._objects(environment.references([container]))
        declared = environment.variables(self.pod, container, objects, self._facts)
        base = {
            "PATH": f"{image['path']}:{_SYSTEM_PATH}",
            "HOME": str(own.home),
            "TMPDIR": str(own.temporary),
            **image.get("env", {}),
            **self._platform_variables(places),
        }
        variables = base | {name: paths.localize(value) for name, value in declared.items()}
        arguments = [paths.localize(word) for word in environment.command_line(container, declared)]
        asked = container.get("workingDir")
        folder = Path(paths.localize(asked)) if asked else own.home
        return Launch(
            container_id=uuid.uuid4().hex,
            program=program(arguments[0], variables["PATH"], folder),
            arguments=tuple(arguments),
            environment=variables,
            folder=folder,
            paths=paths,
        )

    async def refresh(self) -> None:
        """Keep tokens valid and mounted ConfigMaps and Secrets current; never returns."""
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            if not self._volumes_ready:
                continue
            try:
                await self._write_volumes()
            except (ConfigError, ValueError, APIError, aiohttp.ClientError, OSError) as error:
                _log.warning("volumes of %s/%s: %s", self._namespace, self.pod["metadata"]["name"], error)

    def _platform_variables(self, places: dict[str, Path]) -> dict[str, str]:
        token_file = self.folder.credentials_token
        self.folder.write_private(token_file, self._credential_token)
        result = {
            "HOSTNAME": self.pod["metadata"]["name"],
            "BIND_ADDRESS": self.ip,
            "AWS_REGION": _DEFAULT_REGION,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": self.shared.credentials.url,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token_file),
        }
        # What a cluster has started can be told by this mark, so that nothing is left when it goes down.
        if owner := os.environ.get(OWNER_VARIABLE):
            result[OWNER_VARIABLE] = owner
        if token_folder := places.get(_TOKEN_PATH):
            text = kubeconfig.pod_kubeconfig(self.shared.api.server, token_folder, self._namespace)
            self.folder.write_private(self.folder.kubeconfig, text)
            result["KUBECONFIG"] = str(self.folder.kubeconfig)
        return result

    async def _ensure_volumes(self) -> None:
        # Containers of one pod start side by side; the volumes are made once.
        async with self._writing:
            if not self._volumes_ready:
                await self._write_volumes()
                self._volumes_ready = True

    async def _write_volumes(self) -> None:
        objects = await self._objects(volumes.references(self.pod))
        tokens = {request: await self._token(request) for request in volumes.token_requests(self.pod)}
        for volume in self.pod["spec"].get("volumes") or ():
            files = volumes.content(self.pod, volume, objects, self._facts, tokens)
            self.folder.write_volume(volume["name"], files)

    async def _objects(self, references: tuple[set[str], set[str]]) -> Objects:
        config_maps, secrets = references
        return Objects(await self._found("configmaps", config_maps), await self._found("secrets", secrets))

    async def _found(self, plural: str, names: set[str]) -> dict[str, Manifest]:
        path = f"/api/v1/namespaces/{self._namespace}/{plural}"
        found = {name: await self.shared.api.find(f"{path}/{name}") for name in sorted(names)}
        return {name: item for name, item in found.items() if item is not None}

    async def _token(self, request: TokenRequest) -> str:
        token, renew_at = self._tokens.get(request, ("", 0.0))
        if time.monotonic() < renew_at:
            return token
        metadata = self.pod["metadata"]
        body: Manifest = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [request.audience] if request.audience else [],
                "expirationSeconds": request.expiration_seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]},
            },
        }
        path = f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{self._service_account}/token"
        answer = await self.shared.api.post(path, body)
        token = str(answer["status"]["token"])
        self._tokens[request] = token, time.monotonic() + request.expiration_seconds * _TOKEN_LIFE_USED
        return token


def _refuse_unsupported(container: Manifest) -> None:
    # Left out silently, these would make a pod behave otherwise than on a real node.
    if container.get("restartPolicy"):
        raise ConfigError(f'init container "{container["name"]}": restartPolicy (a sidecar) is not supported here')
    if (container.get("lifecycle") or {}).get("postStart"):
        raise ConfigError(f'container "{container["name"]}": lifecycle.postStart is not supported here')
