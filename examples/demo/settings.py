"""What the demo decides: where its data lies, and how the chart is configured for a local cluster. Does no I/O."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neuron_localcluster.record import Image

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".demo"
CLUSTER = STATE / "cluster"
VALUES = STATE / "values.yaml"
LOG = STATE / "demo.log"
LOCK = STATE / "demo.lock"
CHART = ROOT / "charts" / "neuron-operator"
MANIFEST = ROOT / "examples" / "smollm2.yaml"

RELEASE = "neuron-operator"
OPERATOR_NAMESPACE = "neuron-operator-system"
NAMESPACE = "default"
MODEL = "smollm2"
BUCKET = "neuron-artifacts"
VERSION = "0.1.0"
INSTRUCTION_SET = "x86-64-v3"

OPERATOR_IMAGE = "neuron-operator.dev/operator"
SERVING_IMAGE = f"neuron-operator.dev/cpu:{VERSION}"
COMPILE_IMAGE = f"neuron-operator.dev/cpu-compile:{VERSION}"


def images(programs: Path, compiler: str) -> dict[str, Image]:
    """What the cluster takes for the three images: this project's own virtual environment, and the C++ compiler.

    The compiler by its path: pods get this machine's usual PATH, not that of whoever has started the cluster.
    """
    image: Image = {"path": str(programs), "env": {"CXX": compiler}}
    return dict.fromkeys((f"{OPERATOR_IMAGE}:{VERSION}", SERVING_IMAGE, COMPILE_IMAGE), image)


def chart_values(*, hub: str, aws: str, region: str, torch: str, cxx: str) -> dict[str, Any]:
    """The chart's values: images that the cluster knows, and endpoints that stand in for the hub and for AWS.

    `torch` is its version, `cxx` the compiler with its major version, for example `g++-12`.
    """
    pods = {"AWS_ENDPOINT_URL_S3": aws, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    return {
        "image": {"repository": OPERATOR_IMAGE, "tag": VERSION},
        "env": [{"name": name, "value": value} for name, value in pods.items()],
        "platform": {
            "huggingFace": {"endpoint": hub},
            "cpu": {
                "compileImage": COMPILE_IMAGE,
                "servingImage": SERVING_IMAGE,
                "toolchain": {"torch": torch, "cxx": cxx, "march": INSTRUCTION_SET},
            },
            "podEnvironment": {**pods, "HF_ENDPOINT": hub},
        },
    }
