"""The generated CRD: Kubernetes' rules for structural schemas, what it must hold, and what the generator refuses."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, Field

from neuron_operator.api.crd import (
    CHART_FILE,
    PLAIN_FILE,
    custom_resource_definition,
    main,
    plain_document,
    root_schema,
)
from neuron_operator.api.impact import spec_leaves
from neuron_operator.api.structural import UnsupportedSchemaError, structural_schema
from neuron_operator.api.v1alpha1 import NeuronModelSpec

FORBIDDEN = {
    "$ref",
    "$defs",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "examples",
    "const",
    "id",
    "oneOf",
    "patternProperties",
    "prefixItems",
    "readOnly",
    "title",
    "uniqueItems",
    "writeOnly",
    "xml",
}
# kubectl keeps the whole object in an annotation, and etcd's default limit is not far above.
SIZE_LIMIT = 100_000


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema within a schema, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


NODES = dict(nodes(root_schema()))
SPEC_NODES = {path: node for path, node in NODES.items() if path.startswith("spec")}


@pytest.mark.parametrize("path", NODES)
def test_each_node_is_structural(path: str) -> None:
    node = NODES[path]
    assert not FORBIDDEN & node.keys()
    if node.get("x-kubernetes-int-or-string"):
        assert "type" not in node
        assert node["anyOf"] == [{"type": "integer"}, {"type": "string"}]
        return
    assert node["type"] in {"object", "array", "string", "integer", "boolean"}
    assert "anyOf" not in node
    assert not ("properties" in node and "additionalProperties" in node)
    assert not any(keyword.startswith("x-") and not keyword.startswith("x-kubernetes-") for keyword in node)


@pytest.mark.parametrize("path", [path for path in NODES if path and not path.endswith(("[]", "{}", "metadata"))])
def test_each_field_is_described(path: str) -> None:
    assert NODES[path]["description"].endswith(".")


@pytest.mark.parametrize("path", SPEC_NODES)
def test_whatever_a_user_writes_is_bounded(path: str) -> None:
    node = SPEC_NODES[path]
    match node.get("type"):
        case "string":
            assert "maxLength" in node or "enum" in node
        case "integer":
            assert {"minimum", "maximum", "format"} <= node.keys()
        case "array":
            assert "maxItems" in node
        case "object" if "additionalProperties" in node:
            assert "maxProperties" in node


def test_the_defaults_of_models_and_schema_are_the_same() -> None:
    """The API server completes the smallest object to what the models complete it to."""

    def completed(schema: dict[str, Any], value: Any) -> Any:
        if "properties" not in schema:
            return value
        given = {
            name: value[name] if name in value else child["default"]
            for name, child in schema["properties"].items()
            if name in value or "default" in child
        }
        return {name: completed(schema["properties"][name], child) for name, child in given.items()}

    minimal = {"model": {"huggingFace": {"repo": "org/llama"}}}
    from_models = NeuronModelSpec.model_validate(minimal).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert completed(NODES["spec"], minimal) == from_models


def test_every_leaf_of_the_models_is_in_the_schema() -> None:
    assert {f"spec.{leaf}" for leaf in spec_leaves()} <= SPEC_NODES.keys()


def test_rules_name_a_field_and_fit_one_answer() -> None:
    rules = [rule for node in NODES.values() for rule in node.get("x-kubernetes-validations", [])]
    assert rules
    for rule in rules:
        assert rule["message"].startswith(("spec.", "metadata.name"))
        assert len(rule["message"]) < 300


def test_version_subresources_and_columns() -> None:
    definition = custom_resource_definition()
    assert definition["metadata"]["name"] == "neuronmodels.neuron-operator.dev"
    (version,) = definition["spec"]["versions"]
    columns = [(column["name"], column.get("priority", 0)) for column in version["additionalPrinterColumns"]]
    assert columns == [
        ("Ready", 0),
        ("Status", 0),
        ("Model", 0),
        ("Hardware", 0),
        ("Replicas", 0),
        ("Endpoint", 1),
        ("Artifact", 1),
        ("Age", 0),
    ]
    assert version["subresources"]["status"] == {}
    for path in version["subresources"]["scale"].values():
        assert path.lstrip(".") in NODES


def test_columns_point_at_fields_that_exist() -> None:
    (version,) = custom_resource_definition()["spec"]["versions"]
    for column in version["additionalPrinterColumns"]:
        path = column["jsonPath"].lstrip(".").partition("[")[0]
        assert path in NODES or path == "metadata.creationTimestamp"


def test_the_status_starts_as_not_yet_observed() -> None:
    assert NODES["status"]["default"] == {}
    assert NODES["status.observedGeneration"]["default"] == -1


def test_conditions_are_merged_by_type() -> None:
    assert NODES["status.conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    assert "type" in NODES["status.conditions[]"]["required"]


def test_the_manifest_fits_kubectl_apply() -> None:
    assert len(plain_document()) < SIZE_LIMIT
    assert yaml.safe_load(plain_document()) == custom_resource_definition()


def test_check_tells_a_stale_file_from_a_fresh_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--check"]) == 1
    assert not PLAIN_FILE.exists()
    assert main([]) == 0
    assert main(["--check"]) == 0
    CHART_FILE.write_text(CHART_FILE.read_text().replace("Namespaced", "Cluster"))
    capsys.readouterr()
    assert main(["--check"]) == 1
    assert str(CHART_FILE) in capsys.readouterr().err


def test_the_output_is_the_same_in_every_process() -> None:
    """Sets and hashes must not leak into the order of what is generated."""
    program = "from neuron_operator.api.crd import plain_document; import sys; sys.stdout.write(plain_document())"
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        output = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert output.stdout == plain_document()


class Tuple(BaseModel):
    pair: tuple[int, str]


class Union(BaseModel):
    value: int | str


class Untyped(BaseModel):
    value: Any


class OpenMap(BaseModel):
    values: dict[str, Any]


class Exclusive(BaseModel):
    value: int = Field(gt=0)


@pytest.mark.parametrize("model", [Tuple, Union, Untyped, OpenMap, Exclusive])
def test_the_generator_refuses_what_a_structural_schema_cannot_say(model: type[BaseModel]) -> None:
    with pytest.raises(UnsupportedSchemaError, match=r"pair|value"):
        structural_schema(model.model_json_schema())
