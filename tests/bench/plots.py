"""Plots as SVG, without a library: bars side by side, and lines over a logarithmic axis."""
import math

COLOURS = ["#c0392b", "#7f8c8d", "#2e86c1", "#d68910", "#7d3c98", "#229954"]
WIDTH, LEFT, RIGHT, TOP = 760, 60, 20, 48


class Svg:
    def __init__(self, height, title):
        self.height = height
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
                      'font-family="sans-serif" font-size="13">', f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>']
        self.text(16, 24, title, size=16)

    def text(self, x, y, words, anchor="start", size=13, colour="#222222"):
        words = str(words).replace("&", "&amp;").replace("<", "&lt;")
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{words}</text>')

    def bar(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" fill="{colour}"/>')

    def line(self, points, colour, width=2.0, dash=""):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>')

    def dot(self, x, y, colour):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')

    def write(self, path):
        path.write_text("\n".join([*self.parts, "</svg>", ""]))


def nice_step(most):
    power = 10 ** math.floor(math.log10(most / 4))
    return next(power * m for m in (1, 2, 5, 10) if power * m * 4.5 >= most)


# ---- bars: one group of lying bars a workload ------------------------------------------------------------------------

def draw_bars(path, title, groups):
    """groups: [(label, [(name, value, colour)])]. Each group has a scale of its own: its largest fills the width."""
    rows = sum(len(bars) + 1 for _, bars in groups)
    svg = Svg(TOP + rows * 22 + 16, title)
    y = TOP + 8
    for label, bars in groups:
        svg.text(16, y + 6, label, size=14)
        most = max(value for _, value, _ in bars)
        for name, value, colour in bars:
            y += 22
            svg.text(190, y + 4, name, "end")
            width = value / most * (WIDTH - 190 - 100)
            svg.bar(198, y - 9, width, 16, colour)
            svg.text(204 + width, y + 4, f"{value:.0f} ns" if value >= 10 else f"{value:.1f} ns")
        y += 22
    svg.write(path)


# ---- lines over a logarithmic axis -----------------------------------------------------------------------------------

def draw_lines(path, title, x_title, y_title, lines):
    """lines: {name: [(x label, y)]}; all x labels, evenly spaced in the order they come."""
    labels = list(dict.fromkeys(label for points in lines.values() for label, _ in points))
    most = max(y for points in lines.values() for _, y in points)
    step = nice_step(most)
    top = math.ceil(most / step) * step
    height, bottom = 400, 400 - 70
    svg = Svg(height, title)

    def at_x(label):
        return LEFT + 30 + labels.index(label) * (WIDTH - LEFT - RIGHT - 210) / max(len(labels) - 1, 1)

    def at_y(y):
        return bottom - y / top * (bottom - TOP - 16)

    for i in range(round(top / step) + 1):
        svg.line([(LEFT, at_y(i * step)), (WIDTH - RIGHT - 160, at_y(i * step))], "#dddddd", 1)
        svg.text(LEFT - 8, at_y(i * step) + 4, f"{i * step:g}", "end")
    for label in labels:
        svg.text(at_x(label), bottom + 20, label, "middle")
    svg.text((LEFT + WIDTH - RIGHT - 160) / 2, bottom + 46, x_title, "middle")
    svg.text(16, TOP, y_title)
    ends = spread_out([at_y(points[-1][1]) for points in lines.values()])
    for (name, points), colour, end in zip(lines.items(), COLOURS, ends):
        svg.line([(at_x(label), at_y(y)) for label, y in points], colour)
        for label, y in points:
            svg.dot(at_x(label), at_y(y), colour)
        svg.text(at_x(points[-1][0]) + 12, end + 4, name, colour=colour)
    svg.write(path)


def spread_out(ys):
    """Moves labels down so that none covers another."""
    placed = {}
    last = -math.inf
    for i in sorted(range(len(ys)), key=lambda i: ys[i]):
        last = max(ys[i], last + 15)
        placed[i] = last
    return [placed[i] for i in range(len(ys))]


# ---- what is drawn ---------------------------------------------------------------------------------------------------

def bars_of(series):
    return [(name, s.per_item("wall"), COLOURS[i % len(COLOURS)]) for i, (name, s) in enumerate(series.items())]


def draw_peers(cases, path):
    groups = [(letter, bars_of(cases[letter, ""])) for letter in "NLFRD" if (letter, "") in cases]
    if groups:
        draw_bars(path, "Wall time an item, by workload", groups)
    return bool(groups)


def draw_loads(cases, path):
    groups = [(variant, bars_of(series)) for (letter, variant), series in cases.items() if letter == "W"]
    if groups:
        draw_bars(path, "Loading: wall time an item", groups)
    return bool(groups)


def draw_growth(cases, letter, title, x_title, path):
    lines = {}
    for (found, variant), series in cases.items():
        if found == letter:
            for name, s in series.items():
                lines.setdefault(name, []).append((variant.replace(" lists", ""), s.per_item("wall")))
    if lines:
        draw_lines(path, title, x_title, "ns an item", lines)
    return bool(lines)


def draw_link(cases, path):
    lines = {}
    for name, s in cases.get(("T", ""), {}).items():
        who, rtt = name.split(", ")
        lines.setdefault(who, []).append((rtt, 1000 / s.per_item("wall")))
    if lines:
        draw_lines(path, "Throughput over a link", "round-trip time", "million items a second", lines)
    return bool(lines)


def draw_heap(heap, kind, path):
    lines = {}
    for found, k, name, ns in heap:
        if found == kind:
            lines.setdefault(name, []).append((k, float(ns)))
    if lines:
        draw_lines(path, f"The heap alone, {kind} keys", "sequences merged", "ns an item", lines)
    return bool(lines)


def draw_all(cases, heap, sizes, directory):
    """Returns the names of the files that were drawn."""
    drawings = [
        ("peers.svg", lambda p: draw_peers(cases, p)),
        ("loading.svg", lambda p: draw_loads(cases, p)),
        ("lists.svg", lambda p: draw_growth(cases, "K", f"{sizes.numbers // 1000000} million numbers over many lists", "lists", p)),
        ("scale.svg", lambda p: draw_growth(cases, "S", "Numbers over 8 lists", "items", p)),
        ("link.svg", lambda p: draw_link(cases, p)),
        *[(f"heap-{kind}.svg", lambda p, k=kind: draw_heap(heap, k, p)) for kind in ("random", "clustered", "few")],
    ]
    return [name for name, draw in drawings if draw(directory / name)]
