"""Generates the CustomResourceDefinition from the models: `python -m neuron_operator.api.crd` in the checkout's root.

Writes the plain manifest for `kubectl apply` and GitOps, and the chart's template around the same content. With
`--check` nothing is written, and a difference is an error.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from .objects import NEURON_MODEL, Manifest
from .structural import structural_schema
from .v1alpha1 import NeuronModelSchema

PLAIN_FILE = Path("crds/neuron-operator.dev_neuronmodels.yaml")
CHART_FILE = Path("charts/neuron-operator/templates/crd-neuronmodels.yaml")

_HEADER = "# Generated from operator/neuron_operator/api by `make generate`. Do not edit.\n"

_COLUMNS = (
    ("Ready", '.status.conditions[?(@.type=="Ready")].status', 0, "Whether the desired generation is serving"),
    ("Status", ".status.phase", 0, "What is happening"),
    ("Model", ".status.source.location", 0, "Where the model comes from"),
    ("Hardware", ".status.plan.hardware", 0, "What the model runs on"),
    ("Replicas", ".status.serving.replicas", 0, "Ready and wanted serving pods"),
    ("Endpoint", ".status.serving.endpoint", 1, "Address of the OpenAI-compatible API"),
    ("Artifact", ".status.artifact.digest", 1, "Digest of the compiled artifact"),
)


def custom_resource_definition() -> Manifest:
    """The whole definition."""
    names = {
        "kind": NEURON_MODEL.name,
        "listKind": f"{NEURON_MODEL.name}List",
        "plural": NEURON_MODEL.plural,
        "singular": NEURON_MODEL.name.lower(),
        "shortNames": ["nm"],
        "categories": ["neuron"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{NEURON_MODEL.plural}.{NEURON_MODEL.group}"},
        "spec": {
            "group": NEURON_MODEL.group,
            "names": names,
            "scope": "Namespaced",
            "versions": [
                {
                    "name": NEURON_MODEL.version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": root_schema()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.serving.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": [*map(_column, _COLUMNS), _age_column()],
                }
            ],
        },
    }


def root_schema() -> dict[str, Any]:
    """Schema of the whole object. The API server owns the first three fields; they are named for `kubectl explain`."""
    schema = structural_schema(NeuronModelSchema.model_json_schema())
    schema["properties"] = {
        "apiVersion": {"type": "string", "description": "Version of the schema of this object."},
        "kind": {"type": "string", "description": "Kind of this object."},
        "metadata": {"type": "object"},
        **schema["properties"],
    }
    return schema


def plain_document() -> str:
    """The definition as a manifest."""
    return _HEADER + _to_yaml(custom_resource_definition())


def chart_document() -> str:
    """The definition as a template of the chart, whose only moving parts are whether to install and to keep it."""
    definition = custom_resource_definition()
    name = definition["metadata"]["name"]
    head = _to_yaml({"apiVersion": definition["apiVersion"], "kind": definition["kind"]})
    body = _to_yaml({"spec": definition["spec"]})
    if "{{" in body:
        raise ValueError("the definition holds '{{', which Helm would take for an action of its own")
    return (
        f"{_HEADER}{{{{- if .Values.crds.install }}}}\n{head}metadata:\n  name: {name}\n"
        '  labels:\n    {{- include "neuron-operator.labels" . | nindent 4 }}\n'
        "  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n"
        f"{body}{{{{- end }}}}\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Write both files below the working directory, or compare them; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m neuron_operator.api.crd", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of date")
    check = parser.parse_args(arguments).check
    stale = False
    for path, document in ((PLAIN_FILE, plain_document()), (CHART_FILE, chart_document())):
        if path.is_file() and path.read_text() == document:
            continue
        if check:
            stale = True
            sys.stderr.write(f"{path} is out of date; run `make generate` and commit it\n")
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document)
        sys.stdout.write(f"wrote {path}\n")
    return 1 if stale else 0


def _column(column: tuple[str, str, int, str]) -> dict[str, Any]:
    name, path, priority, description = column
    entry = {"name": name, "type": "string", "jsonPath": path, "description": description}
    return entry | ({"priority": priority} if priority else {})


def _age_column() -> dict[str, Any]:
    return {
        "name": "Age",
        "type": "date",
        "jsonPath": ".metadata.creationTimestamp",
        "description": "Time since creation",
    }


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, and never writes anchors: the API's readers include people."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _to_yaml(value: Any) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return text


if __name__ == "__main__":
    sys.exit(main())
