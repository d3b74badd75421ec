"""Learning curves as an SVG."""

import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, MARGIN = 720, 400, 56
COLOURS = ("#1b6ca8", "#d1495b", "#2e933c", "#8e5ea2", "#e08e2b", "#5c6672")


def draw(steps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> str:
    """Return the chart: median error (%) after so many observations, one line a tokenizer."""
    top = max((value for curve in curves.values() for value in curve), default=1.0) * 1.1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{MARGIN}" y="24" font-size="15">Median error of prompts, by observations learned from</text>',
    ]
    for value in range(0, math.ceil(top), 2):
        y = _y(value, top)
        parts.append(f'<line x1="{MARGIN}" y1="{y}" x2="{WIDTH - 140}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{MARGIN - 8}" y="{y + 4}" text-anchor="end">{value} %</text>')
    for step in steps:
        parts.append(f'<text x="{_x(step, steps)}" y="{HEIGHT - 20}" text-anchor="middle">{step}</text>')
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(f"{_x(s, steps)},{_y(v, top)}" for s, v in zip(steps, curve, strict=False))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{WIDTH - 130}" y="{60 + 20 * number}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _x(step: int, steps: Sequence[int]) -> float:
    low, high = math.log(steps[0]), math.log(steps[-1])
    return round(MARGIN + (math.log(step) - low) / (high - low) * (WIDTH - 140 - MARGIN), 1)


def _y(value: float, top: float) -> float:
    return round(HEIGHT - 44 - value / top * (HEIGHT - 84), 1)
