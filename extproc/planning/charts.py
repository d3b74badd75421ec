"""Charts as SVG: lines and bars with axes, drawn for a column about 360 units wide so that phones can read them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 360, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 48
TICKS = 5
ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Steps people read easily, times a power of ten."""

COLOURS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)", "var(--e)")

Points = Sequence[tuple[float, float]]
Format = Callable[[float], str]


def short(value: float) -> str:
    """A number in few characters: 12k, 3.5M."""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def tokens(value: float) -> str:
    """Tokens, in units of 1,024 from there on."""
    return f"{value / 1024:g}K" if value >= 1024 else f"{value:g}"


def percent(value: float) -> str:
    """A share as a percentage."""
    return f"{value:.0%}"


def dollars(value: float) -> str:
    """An amount of dollars in few characters."""
    return f"${short(value)}"


@dataclass
class Lines:
    """A line chart whose y axis begins at 0. `series`: name and points. `x_log`: logarithmic x axis.

    `y_most`: where the y axis ends, None for a round number above all. `marks`: x positions with a label. `levels`:
    horizontal lines with a label. `dots`: single points with a label. `names_at_end`: name series where their lines
    end, not in a legend.
    """

    x_title: str
    y_title: str
    series: Sequence[tuple[str, Points]]
    x_log: bool = False
    x_format: Format = short
    y_format: Format = short
    y_most: float | None = None
    marks: list[tuple[float, str]] = field(default_factory=list)
    levels: list[tuple[float, str]] = field(default_factory=list)
    dots: list[tuple[float, float, str]] = field(default_factory=list)
    names_at_end: bool = False

    def svg(self, label: str) -> str:
        """Draw; `label` says what the chart shows to those who cannot see it."""
        parts, keys = self._axes(), []
        for number, (name, points) in enumerate(self.series):
            colour = COLOURS[number % len(COLOURS)]
            if self.names_at_end:
                parts.append(_text(WIDTH - RIGHT, self._y(points[-1][1]) - 5, name, "end"))
            elif len(self.series) > 1:
                keys.append(_key(number, name, colour))
            path = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in points)
            parts.append(f'<polyline points="{path}" stroke="{colour}" class="line"/>')
        for x, text in self.marks:
            at = self._x(x)
            parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="mark"/>')
            anchor = "end" if at > WIDTH * 0.6 else "start"
            shift = -4 if anchor == "end" else 4
            parts.append(_text(at + shift, HEIGHT - BOTTOM - 8, text, anchor, "strong"))
        for y, text in self.levels:
            at = self._y(y)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" class="mark"/>')
            parts.append(_text(WIDTH - RIGHT, at - 4, text, "end", "strong"))
        for x, y, text in self.dots:
            parts.append(f'<circle cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="4.5" class="dot"/>')
            parts.append(_text(self._x(x) + 8, self._y(y) + 4, text, "start", "strong"))
        return _frame(label, parts + keys)

    def _x_range(self) -> tuple[float, float]:
        xs = [x for _, points in self.series for x, _ in points]
        return min(xs), max(xs)

    def _y_high(self) -> float:
        if self.y_most is not None:
            return self.y_most
        ys = [y for _, points in self.series for _, y in points]
        ys += [y for y, _ in self.levels] + [y for _, y, _ in self.dots]
        step = _step(0.0, max(ys))
        return math.ceil(max(ys) / step) * step

    def _x(self, x: float) -> float:
        low, high = self._x_range()
        if self.x_log:
            low, high, x = math.log(low), math.log(high), math.log(max(x, low))
        return LEFT + (x - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    def _y(self, y: float) -> float:
        return HEIGHT - BOTTOM - y / self._y_high() * (HEIGHT - TOP - BOTTOM)

    def _axes(self) -> list[str]:
        parts = []
        for y in _steps(0.0, self._y_high()):
            parts.append(_rule(self._y(y)))
            parts.append(_text(LEFT - 6, self._y(y) + 4, self.y_format(y), "end"))
        low, high = self._x_range()
        for x in _doublings(low, high) if self.x_log else _steps(low, high):
            parts.append(_text(min(self._x(x), WIDTH - 12), HEIGHT - BOTTOM + 17, self.x_format(x), "middle"))
        parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, self.x_title, "middle"))
        parts.append(_upright(self.y_title))
        return parts


def _step(low: float, high: float) -> float:
    """A round distance between marks of an axis."""
    least = (high - low) / TICKS
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in ROUND if factor * power >= least * (1 - 1e-9))


def _steps(low: float, high: float) -> list[float]:
    step = _step(low, high)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _doublings(low: float, high: float) -> list[float]:
    """Powers of two from `low` to `high`, thinned to a readable number."""
    powers = range(math.ceil(math.log2(low) - 1e-9), math.floor(math.log2(high) + 1e-9) + 1)
    return [2.0**power for power in powers[:: max(1, math.ceil(len(powers) / (TICKS + 2)))]]


def bars(
    label: str,
    y_title: str,
    groups: list[tuple[str, list[tuple[str, float]]]],
    y_format: Format = short,
    chosen: str = "",
) -> str:
    """A bar chart lying down: groups of named bars, each with its value written behind it.

    `chosen`: the group to show in another colour.
    """
    names = [name for name, _ in groups[0][1]]
    rows = sum(len(members) for _, members in groups)
    thick, gap, head = 16, 12, 22
    height = head + rows * thick + len(groups) * (gap + 15) + 6
    most = max((value for _, members in groups for _, value in members), default=0) or 1
    parts = [_text(0, 14, y_title, "start", "strong")]
    if len(names) > 1:
        for number, name in enumerate(names):
            x = WIDTH - 80 * (len(names) - number)
            parts.append(f'<rect x="{x}" y="5" width="10" height="10" fill="{COLOURS[number]}"/>')
            parts.append(_text(x + 14, 14, name, "start"))
    y = float(head)
    for title, members in groups:
        y += gap
        parts.append(_text(0, y + 6, title, "start"))
        y += 11
        for number, (_, value) in enumerate(members):
            length = max(1.0, value / most * (WIDTH - 90))
            fill = COLOURS[(number + (title == chosen)) % len(COLOURS)]
            parts.append(f'<rect x="0" y="{y:.1f}" width="{length:.1f}" height="{thick - 3}" fill="{fill}"/>')
            parts.append(_text(length + 6, y + 11, y_format(value), "start", "strong"))
            y += thick
        y += 4
    return _frame(label, parts, height)


def _frame(label: str, parts: list[str], height: float = HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'


def _upright(text: str) -> str:
    middle = (HEIGHT - BOTTOM + TOP) / 2
    return f'<text transform="translate(13 {middle:.0f}) rotate(-90)" text-anchor="middle">{escape(text)}</text>'


def _rule(y: float) -> str:
    return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="rule"/>'


def _key(number: int, name: str, colour: str) -> str:
    y = TOP + 12 + 16 * number
    return f'<rect x="{LEFT + 8}" y="{y - 8}" width="10" height="10" fill="{colour}"/>' + _text(
        LEFT + 23, y + 1, name, "start"
    )
