"""Where a model's source and artifacts are kept: which store, and which part of it. Pure."""

from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.settings import ArtifactSharing, PlatformSettings
from neuron_runtime.contract.store import StoreLocation

from .revision import SHARED_DOMAIN, namespace_domain


def store_of(model: NeuronModel, settings: PlatformSettings) -> StoreLocation | None:
    """The store that the spec names, else the platform's; None where there is neither."""
    shared = settings.artifact_sharing is ArtifactSharing.CLUSTER
    domain = SHARED_DOMAIN if shared else namespace_domain(model.metadata.namespace)
    own = model.spec.artifact_store
    chosen = own.s3 if own is not None else settings.default_artifact_store
    if chosen is None:
        return None
    return StoreLocation(bucket=chosen.bucket, prefix=chosen.prefix, region=chosen.region, domain=domain)
