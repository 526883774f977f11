"""Bars with spreads as an SVG file, which browsers and hubs show without a library of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from serving.spread import Spread, three_digits

_WIDTH, _LABELS, _VALUES = 860, 230, 90
_ROW, _HEAD, _GAP = 24, 34, 18
_BAR = 14
_COLORS = {"ours": "#1f6feb", "bound": "#8c959f", "other": "#d4a72c"}


@dataclass(frozen=True)
class Bar:
    """One measured value."""

    label: str
    value: Spread
    kind: str
    """`ours`, `other` or `bound`."""


@dataclass(frozen=True)
class Group:
    """Bars that are compared: they have one scale."""

    title: str
    bars: Sequence[Bar]


def svg(title: str, groups: Sequence[Group]) -> str:
    """A drawing: bars reach to medians, thin lines from minimum to maximum."""
    drawn, top = [], _HEAD
    for group in groups:
        drawn.append(_text(16, top + 14, group.title, weight="bold"))
        top += _ROW
        largest = max(bar.value.maximum for bar in group.bars)
        for bar in group.bars:
            drawn.extend(_bar(bar, top, (_WIDTH - _LABELS - _VALUES) / largest if largest > 0 else 0.0))
            top += _ROW
        top += _GAP
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" viewBox="0 0 {_WIDTH} {top}" '
            'font-family="sans-serif" font-size="13">',
            f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>',
            _text(16, 22, title, weight="bold", size=15),
            *drawn,
            "</svg>\n",
        )
    )


def _bar(bar: Bar, top: int, scale: float) -> list[str]:
    middle = top + _BAR / 2
    low, median, high = (_LABELS + scale * value for value in (bar.value.minimum, bar.value.median, bar.value.maximum))
    return [
        _text(_LABELS - 8, top + 12, bar.label, anchor="end"),
        f'<rect x="{_LABELS}" y="{top}" width="{median - _LABELS:.1f}" height="{_BAR}" fill="{_COLORS[bar.kind]}"/>',
        f'<line x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}" stroke="#24292f"/>',
        _text(high + 8, top + 12, three_digits(bar.value.median)),
    ]


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}" '
        f'fill="#24292f">{escape(text)}</text>'
    )
