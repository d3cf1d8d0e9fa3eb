"""Plots as SVG by pygal, readable in both colour schemes, and their data as CSV."""

from __future__ import annotations

import csv as csv_format
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pygal
from fastapi.responses import Response
from pygal.style import Style

# Grey lines and one blue that stand out on white and on black; the background is the page's own.
STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground="#808890",
    foreground_strong="#808890",
    foreground_subtle="#a0a8b0",
    colors=("#2f7fd6",),
    guide_stroke_color="#80889050",
    major_guide_stroke_color="#80889080",
    font_family="system-ui, sans-serif",
    label_font_size=11,
    major_label_font_size=11,
    title_font_size=14,
)
OPTIONS: dict[str, Any] = {
    "style": STYLE,
    "js": [],  # pygal's own tooltips come from another host
    "show_legend": False,
    "width": 760,
    "height": 280,
    "x_label_rotation": 20,
    "pretty_print": False,
}
SCRIPT = re.compile(rb"<script.*?</script>", re.DOTALL)  # pygal's settings for tooltips, which there are none of
LABELS = 12  # that fit beside one another


@dataclass(frozen=True)
class Measured:
    """A value with its interval."""

    label: str
    value: float
    low: float
    high: float


def bars(title: str, points: Sequence[tuple[str, float]]) -> bytes:
    chart = pygal.Bar(title=title, **_labels([label for label, _ in points]))
    chart.add(title, [round(value, 4) for _, value in points])
    return _rendered(chart)


def intervals(title: str, points: Sequence[Measured]) -> bytes:
    """Points with whiskers."""
    chart = pygal.Line(
        title=title, stroke=False, dots_size=4, range=_range(points), **_labels([point.label for point in points])
    )
    chart.add(
        title,
        [{"value": round(p.value, 4), "ci": {"low": round(p.low, 4), "high": round(p.high, 4)}} for p in points],
    )
    return _rendered(chart)


def _range(points: Sequence[Measured]) -> tuple[float, float] | None:
    """All that the whiskers reach; pygal itself looks at the points alone."""
    if not points:
        return None
    low, high = min(point.low for point in points), max(point.high for point in points)
    margin = (high - low) / 10 or 1.0
    return low - margin, high + margin


def _labels(labels: list[str]) -> dict[str, Any]:
    every = max(1, -(-len(labels) // LABELS))
    return {
        **OPTIONS,
        "x_labels": labels,
        "x_labels_major": labels[::every],
        "show_minor_x_labels": False,
        "no_data_text": "nothing yet",
    }


def _rendered(chart: Any) -> bytes:
    drawn: bytes = chart.render()
    return SCRIPT.sub(b"", drawn)


def svg(drawn: bytes) -> Response:
    """A plot as an image. Its styles are its own, so the page's policy cannot be; scripts it has none."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return Response(drawn, media_type="image/svg+xml", headers={"Content-Security-Policy": policy})


def csv(columns: Sequence[str], rows: Iterable[Sequence[object]], name: str) -> Response:
    """A plot's data, to be kept."""
    text = io.StringIO()
    writer = csv_format.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    return Response(
        text.getvalue(), media_type="text/csv", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )
