"""What pods need to read a source: the address of the platform's hub, the token, or the claim."""

from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.settings import HuggingFaceSettings, PlatformSettings
from neuron_runtime.contract.launch import SOURCE_DIR_VARIABLE, TOKEN_PATH_VARIABLE
from neuron_runtime.contract.origin import SecretKey

from .pods import Mount

_PUBLIC_HUB = HuggingFaceSettings().endpoint
_TOKEN_DIR = "/etc/neuron-operator/token"  # noqa: S105 - a folder
_SOURCE_DIR = "/mnt/source"
# The pod's group reads it, nobody else.
_TOKEN_MODE = 0o440


def token_of(model: NeuronModel) -> SecretKey | None:
    """The Secret's key that the spec names now: another token for the same source is no other source."""
    repository = model.spec.model.hugging_face
    if repository is None or repository.token_secret_ref is None:
        return None
    return SecretKey(secret=repository.token_secret_ref.name, key=repository.token_secret_ref.key)


def hub_environment(settings: PlatformSettings) -> dict[str, str]:
    """Where pods find the hub of models that name none: where the operator does, unless the platform's variables say
    otherwise."""
    endpoint = settings.hugging_face.endpoint
    return {} if endpoint == _PUBLIC_HUB else {"HF_ENDPOINT": endpoint}


def source_mounts(token: SecretKey | None, claim_name: str | None) -> list[Mount]:
    """Mounts of a pod that reads a source with this token, or from this claim."""
    mounts = []
    if token is not None:
        # Optional, so that a missing one is a failure with a name and not a pod that never starts.
        secret = {
            "secretName": token.secret,
            "items": [{"key": token.key, "path": "token"}],
            "defaultMode": _TOKEN_MODE,
            "optional": True,
        }
        variables = {TOKEN_PATH_VARIABLE: f"{_TOKEN_DIR}/token"}
        mounts.append(Mount("token", {"secret": secret}, _TOKEN_DIR, variables))
    if claim_name is not None:
        claim = {"claimName": claim_name, "readOnly": True}
        variables = {SOURCE_DIR_VARIABLE: _SOURCE_DIR}
        mounts.append(Mount("source", {"persistentVolumeClaim": claim}, _SOURCE_DIR, variables))
    return mounts
