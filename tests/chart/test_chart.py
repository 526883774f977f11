"""The chart as the real helm renders it."""

import os
import re
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.settings import OPERATOR_IMAGE, VERSION, chart_values
from neuron_localcluster.binaries.locate import ensure_binaries
from neuron_operator import __version__
from neuron_operator.api.crd import custom_resource_definition
from neuron_operator.api.objects import KINDS
from neuron_operator.settings import ArtifactSharing, load

CHART = Path(__file__).parents[2] / "charts" / "neuron-operator"
RELEASE = "neuron-operator"
NAMESPACE = "neuron-system"

Manifest = dict[str, Any]
Helm = Callable[..., subprocess.CompletedProcess[str]]
Render = Callable[..., list[Manifest]]


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    program = ensure_binaries().helm
    home = str(tmp_path_factory.mktemp("helm"))
    environment = os.environ | dict.fromkeys(("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"), home)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(program), *arguments], env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    def run(*arguments: str, release: str = RELEASE) -> list[Manifest]:
        result = helm("template", release, str(CHART), "--namespace", NAMESPACE, *arguments)
        assert result.returncode == 0, result.stderr
        return [document for document in yaml.safe_load_all(result.stdout) if document]

    return run


def one(manifests: list[Manifest], kind: str) -> Manifest:
    (manifest,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return manifest


def container(manifests: list[Manifest]) -> Manifest:
    (found,) = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def settings_text(manifests: list[Manifest]) -> str:
    return str(one(manifests, "ConfigMap")["data"]["settings.yaml"])


def verbs(manifests: list[Manifest]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for role in (manifest for manifest in manifests if manifest["kind"] in {"Role", "ClusterRole"}):
        for rule in role["rules"]:
            for group, resource in product(rule["apiGroups"], rule["resources"]):
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def test_helm_finds_nothing_to_object_to(helm: Helm) -> None:
    result = helm("lint", "--strict", str(CHART))
    assert result.returncode == 0, result.stdout


def test_an_older_kubernetes_is_refused(helm: Helm) -> None:
    result = helm("template", RELEASE, str(CHART), "--kube-version", "1.31.0")
    assert result.returncode != 0
    assert "incompatible with Kubernetes" in result.stderr


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("replica=2", "replica"),
        ("platform.cpu.image=x", "/platform/cpu"),
        ("platform.artifactSharing=Everyone", "/platform/artifactSharing"),
        ("platform.defaultArtifactStore.prefix=x", "/platform/defaultArtifactStore"),
        ("image.digest=latest", "/image/digest"),
        ("crds.install=maybe", "/crds/install"),
        ("platform.workers=0", "/platform/workers"),
        ("platform.proxy.httpsProxy=proxy:3128", "/platform/proxy/httpsProxy"),
        ("platform.proxy.httpsProxy=http://user:password@proxy:3128", "/platform/proxy/httpsProxy"),
        ("platform.trustedCertificates.key=ca.crt", "/platform/trustedCertificates"),
    ],
)
def test_wrong_values_are_refused_by_name(helm: Helm, setting: str, path: str) -> None:
    result = helm("template", RELEASE, str(CHART), "--set", setting)
    assert result.returncode != 0
    assert path in result.stderr


def test_the_definition_is_the_generated_one(render: Render) -> None:
    rendered = one(render(), "CustomResourceDefinition")
    assert rendered["spec"] == custom_resource_definition()["spec"]
    assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_definition_can_be_left_to_somebody_else(render: Render) -> None:
    assert not [manifest for manifest in render("--set", "crds.install=false") if "Definition" in manifest["kind"]]
    assert "annotations" not in one(render("--set", "crds.keep=false"), "CustomResourceDefinition")["metadata"]


def test_the_settings_are_those_that_the_operator_reads(render: Render, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(settings_text(render()))
    settings = load(file)
    assert settings.artifact_sharing is ArtifactSharing.NAMESPACE
    assert settings.default_artifact_store is None
    assert settings.identities.manage
    assert settings.trusted_certificates is None
    file.write_text(
        settings_text(
            render(
                *("--set", "platform.workers=3"),
                *("--set", "platform.defaultArtifactStore.bucket=artifacts"),
                *("--set", "platform.proxy.httpsProxy=http://proxy:3128"),
                *("--set", "platform.podEnvironment.HF_ENDPOINT=http://hub"),
                *("--set", r"platform.identities.servingAnnotations.eks\.amazonaws\.com/role-arn=arn:x"),
            )
        )
    )
    settings = load(file)
    assert settings.workers == 3
    assert settings.default_artifact_store is not None
    assert settings.default_artifact_store.bucket == "artifacts"
    assert settings.proxy.https_proxy == "http://proxy:3128"
    assert settings.pod_environment == {"HF_ENDPOINT": "http://hub"}
    assert settings.identities.serving_annotations == {"eks.amazonaws.com/role-arn": "arn:x"}


def test_new_settings_make_a_new_pod(render: Render) -> None:
    def annotations(*arguments: str) -> Manifest:
        found = one(render(*arguments), "Deployment")["spec"]["template"]["metadata"]["annotations"]
        assert isinstance(found, dict)
        return found

    assert annotations() == annotations("--set", "replicas=2")
    assert annotations() != annotations("--set", "platform.workers=8")


def test_the_pod_keeps_to_the_restricted_profile(render: Render) -> None:
    manifests = render()
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(manifests)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not any("hostPath" in volume for volume in pod["volumes"])


def test_the_environment_names_the_settings_that_are_mounted(render: Render) -> None:
    found = container(render("--set", "env[0].name=AWS_ENDPOINT_URL_S3", "--set", "env[0].value=http://s3"))
    names = [entry["name"] for entry in found["env"]]
    assert names == ["NEURON_OPERATOR_SETTINGS", "POD_NAME", "POD_NAMESPACE", "AWS_ENDPOINT_URL_S3"]
    folder, _, file = found["env"][0]["value"].rpartition("/")
    assert folder in {mount["mountPath"] for mount in found["volumeMounts"]}
    assert file in one(render(), "ConfigMap")["data"]


def test_the_operator_takes_the_platforms_proxy_and_still_reaches_the_api_server(render: Render) -> None:
    proxy = ("--set", "platform.proxy.httpsProxy=http://proxy:3128", "--set", r"platform.proxy.noProxy=.internal\,.svc")
    environment = {entry["name"]: entry.get("value") for entry in container(render(*proxy))["env"]}
    assert environment["HTTPS_PROXY"] == environment["https_proxy"] == "http://proxy:3128"
    assert "HTTP_PROXY" not in environment
    assert environment["NO_PROXY"] == environment["no_proxy"]
    direct = str(environment["NO_PROXY"]).split(",")
    assert direct[:3] == [".internal", ".svc", "$(KUBERNETES_SERVICE_HOST)"]
    assert {"169.254.170.23", "169.254.169.254"} <= set(direct)


def test_the_operator_trusts_the_platforms_certificates(render: Render, tmp_path: Path) -> None:
    manifests = render("--set", "platform.trustedCertificates.configMapName=bundle")
    found = container(manifests)
    (volume,) = (
        volume
        for volume in one(manifests, "Deployment")["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "certificates"
    )
    assert volume["configMap"]["name"] == "bundle"
    (mount,) = (mount for mount in found["volumeMounts"] if mount["name"] == "certificates")
    files = {entry["name"]: entry["value"] for entry in found["env"] if entry.get("value", "").endswith("/ca.crt")}
    assert set(files) == {"AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"}
    assert set(files.values()) == {f"{mount['mountPath']}/{volume['configMap']['items'][0]['path']}"}
    # The key's default is the settings' own: pods look for what the operator looks for.
    file = tmp_path / "settings.yaml"
    file.write_text(settings_text(manifests))
    trusted = load(file).trusted_certificates
    assert trusted is not None
    assert (trusted.config_map_name, trusted.key) == ("bundle", volume["configMap"]["items"][0]["key"])


def test_the_image_is_the_version_unless_a_digest_is_given(render: Render) -> None:
    assert container(render())["image"] == f"neuron-operator.dev/operator:{__version__}"
    digest = f"sha256:{'0' * 64}"
    assert container(render("--set", f"image.digest={digest}"))["image"] == f"neuron-operator.dev/operator@{digest}"


def test_rights_are_exactly_those_in_use(render: Render) -> None:
    assert verbs(render()) == {
        ("neuron-operator.dev", "neuronmodels"): {"list", "watch"},
        ("neuron-operator.dev", "neuronmodels/status"): {"update"},
        ("apps", "controllerrevisions"): {"get", "list", "watch", "create", "patch", "delete"},
        ("apps", "deployments"): {"get", "list", "watch", "create", "patch", "delete"},
        ("batch", "jobs"): {"get", "list", "watch", "create", "patch", "delete"},
        ("", "services"): {"get", "list", "watch", "create", "patch"},
        ("", "serviceaccounts"): {"get", "list", "watch", "create", "patch"},
        ("", "pods"): {"list", "watch"},
        ("events.k8s.io", "events"): {"create"},
        ("coordination.k8s.io", "leases"): {"get", "create", "update"},
    }


def test_no_right_reaches_a_secret(render: Render) -> None:
    assert not [resource for _, resource in verbs(render()) if resource in {"secrets", "*"}]


def test_identities_of_the_platform_are_read_only(render: Render) -> None:
    rights = verbs(render("--set", "platform.identities.manage=false"))
    assert rights["", "serviceaccounts"] == {"get", "list", "watch"}


def test_rights_are_for_kinds_that_the_operator_knows(render: Render) -> None:
    known = {(kind.group if "/" in kind.api_version else "", kind.plural) for kind in KINDS.values()}
    assert {(group, resource.partition("/")[0]) for group, resource in verbs(render())} == known


def test_leases_are_reachable_in_the_own_namespace_only(render: Render) -> None:
    manifests = render()
    assert one(manifests, "Role")["metadata"]["namespace"] == NAMESPACE
    named = {verb for rule in one(manifests, "Role")["rules"] if "resourceNames" in rule for verb in rule["verbs"]}
    # A create names no object that a rule could know.
    assert named == {"get", "update"}
    cluster_wide = [rule for rule in one(manifests, "ClusterRole")["rules"] if "leases" in rule["resources"]]
    assert not cluster_wide


def test_an_account_of_somebody_else_is_bound_but_not_made(render: Render, helm: Helm) -> None:
    manifests = render("--set", "serviceAccount.create=false", "--set", "serviceAccount.name=theirs")
    assert not [manifest for manifest in manifests if manifest["kind"] == "ServiceAccount"]
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        assert one(manifests, kind)["subjects"][0]["name"] == "theirs"
    refused = helm("template", RELEASE, str(CHART), "--set", "serviceAccount.create=false")
    assert "serviceAccount.name" in refused.stderr


def test_two_releases_do_not_share_a_name(render: Render) -> None:
    def names(release: str) -> set[tuple[str, str]]:
        return {(manifest["kind"], manifest["metadata"]["name"]) for manifest in render(release=release)}

    shared = names("blue") & names("green")
    assert {kind for kind, _ in shared} == {"CustomResourceDefinition"}
    assert all(re.fullmatch(r"[a-z0-9.-]{1,63}", name) for _, name in names("a" * 53))


def test_the_values_of_the_demo_are_those_that_the_schema_knows(render: Render, tmp_path: Path) -> None:
    values = chart_values(hub="http://hub", aws="http://aws", region="us-east-1", torch="2.13.0", cxx="g++-12")
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    assert container(render("--values", str(file)))["image"] == f"{OPERATOR_IMAGE}:{VERSION}"
