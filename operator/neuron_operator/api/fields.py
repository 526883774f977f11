"""Building blocks of the API's models: the base classes and the types of fields that appear more than once.

Descriptions of fields are their docstrings; `kubectl explain` shows them. Nothing here knows a field's meaning.
"""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel

from .schema import int_or_string

QUANTITY_PATTERN = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|[eE][+-]?[0-9]+)?$"

_ELLIPSIS = "..."


class ApiModel(BaseModel):
    """Base of everything inside a NeuronModel: frozen, camelCase in manifests, snake_case in Python.

    Unknown fields are ignored here: the API server has pruned or refused them, and an object may have been written
    under a newer schema than this program's.
    """

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )


class StatusModel(ApiModel):
    """Base of the parts of `status`. Whatever is None is absent from the document."""

    def to_document(self) -> dict[str, Any]:
        """Return the document as plain JSON types, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _quantity_text(value: object) -> object:
    # Manifests write `cpu: 2` as often as `cpu: "2"`; one form keeps revisions equal.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    BeforeValidator(_quantity_text),
    StringConstraints(pattern=QUANTITY_PATTERN, max_length=32),
    WithJsonSchema(int_or_string(QUANTITY_PATTERN)),
]
"""A Kubernetes quantity. Manifests may hold an integer; models always hold its text."""

Int32 = Annotated[int, Field(json_schema_extra={"format": "int32"})]
Int64 = Annotated[int, Field(json_schema_extra={"format": "int64"})]


def _no_parent_folder(text: str) -> str:
    if ".." in text:
        raise ValueError("must not contain '..'")
    return text


RelativePath = Annotated[str, AfterValidator(_no_parent_folder)]
"""A path, prefix or reference that may not climb."""


def shortened(text: str, limit: int, *, keep_end: bool = False) -> str:
    """Return the text, cut to `limit` characters with an ellipsis for what is missing."""
    if len(text) <= limit:
        return text
    kept = limit - len(_ELLIPSIS)
    return _ELLIPSIS + text[-kept:] if keep_end else text[:kept] + _ELLIPSIS


def _shortener(limit: int, keep_end: bool) -> Callable[[str], str]:
    return lambda text: shortened(text, limit, keep_end=keep_end)


Line = Annotated[
    str, AfterValidator(_shortener(1024, keep_end=False)), WithJsonSchema({"type": "string", "maxLength": 1024})
]
"""Text for people in `status`, cut to 1024 characters so that a status stays small."""

LogTail = Annotated[
    str, AfterValidator(_shortener(2048, keep_end=True)), WithJsonSchema({"type": "string", "maxLength": 2048})
]
"""The end of a log, cut to its last 2048 characters."""

Timestamp = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""RFC 3339 in UTC with seconds, as Kubernetes writes it."""
