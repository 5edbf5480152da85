"""What was measured, as tables for people, a verdict for each figure that must be reached, and a CSV."""
import csv

from machine import median
from runner import ratios

MERGER = "nwm-merger"


def spread(values, form):
    return f"{form % median(values)} ({form % min(values)}–{form % max(values)})"


# ---- one case --------------------------------------------------------------------------------------------------------

HEAD = ["", "wall s (min–max)", "ns/item", "CPU ns/item", "Redis CPU", "MiB", "Redis MiB", "wall / ours"]


def case_rows(series):
    first = next(iter(series.values()))
    rows = [HEAD]
    for name, s in series.items():
        ratio = ratios(s, first)
        rows.append([name, spread(s.values("wall"), "%.3f"), "%.0f" % s.per_item("wall"), "%.0f" % s.per_item("cpu"),
                     "%.0f" % s.per_item("server_cpu"), "%.1f" % (max(s.values("rss")) / 1024),
                     "%.0f" % (max(s.values("server_rss")) / 1024), "" if s is first else spread(ratio, "%.2f")])
    return rows


def print_rows(rows, indent="  "):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        print((indent + "  ".join(cells)).rstrip(), flush=True)


# ---- the figures that must be reached --------------------------------------------------------------------------------

class Figure:
    """bounds: what is the least and the aim; more: larger is better. values: one a round, or a single one."""

    def __init__(self, label, values, least, aim, more=False, form="%.2f"):
        self.label, self.values, self.least, self.aim, self.more, self.form = label, values, least, aim, more, form

    def reaches(self, bound):
        value = median(self.values)
        return value >= bound if self.more else value <= bound

    def verdict(self):
        if not self.reaches(self.least):
            return "MISSED"
        return "aim" if self.aim is not None and self.reaches(self.aim) else "ok"

    def row(self):
        sign = "≥" if self.more else "≤"
        value = spread(self.values, self.form) if len(self.values) > 1 else self.form % self.values[0]
        bounds = [f"{sign} {bound:g}" if bound is not None else "" for bound in (self.least, self.aim)]
        return [self.label, value, *bounds, self.verdict()]


class Results:
    """{(letter, variant): {name: Series}}; figures ask for what they need, and a missing case makes them None."""

    def __init__(self, cases):
        self.cases = cases

    def find(self, letter, name, variant=""):
        return self.cases[letter, variant][name]

    def wall(self, letter, over, under, variant=""):
        return ratios(self.find(letter, over, variant), self.find(letter, under, variant))

    def cpu(self, letter):
        s = self.find(letter, MERGER)
        return [v * 1e9 / s.items for v in s.values("cpu")]


def scale_figure(r, sizes):
    small, large = (f"{n // 1000000} M" for n in (sizes.scale[0], sizes.scale[-1]))
    a, b = r.find("S", MERGER, large), r.find("S", MERGER, small)
    return Figure(f"S: wall an item at {large} / at {small}", [a.per_item("wall") / b.per_item("wall")], 1.3, 1.1)


def link_figure(r, sizes):
    values = ratios(r.find("T", f"{MERGER}, 0 ms"), r.find("T", f"{MERGER}, 10 ms"))
    return Figure("T: throughput at 10 ms / at 0 ms", values, 0.8, 0.95, more=True)


def short_wall_figure(r, name, rtt):
    values = [s.wall * 1000 - 5 * rtt for s in r.find("H", name, "--limit 10").samples]
    return Figure(f"H: wall without 5 round trips, {rtt} ms link, ms", values, 50, None, form="%.0f")


def memory_figure(r):
    peaks = [max(s.values("rss")) / 1024 for case in r.cases.values() for name, s in case.items() if name.startswith("nwm-")]
    return Figure("peak resident memory of ours, all workloads, MiB", [max(peaks)], 96, 72, form="%.1f")


def all_figures(r, sizes):
    """Every row of the target, in its order, as functions: those that lack a workload raise KeyError."""
    one, thousand = "redis-cli --pipe, 1 a RPUSH", "redis-cli --pipe, 1000 a RPUSH"
    rows = [
        lambda: Figure("N: wall / drain", r.wall("N", MERGER, "drain"), 1.25, 1.05),
        lambda: Figure("N: wall, GNU sort -m -n -s / ours", r.wall("N", "GNU sort -m", MERGER), 1.15, 1.6, True),
        lambda: Figure("N: wall, shell / ours", r.wall("N", "redis-cli | sort -m", MERGER), 3.5, 5, True),
        lambda: Figure("N: wall, Python / ours", r.wall("N", "redis-py, heapq", MERGER), 9, 15, True),
        lambda: Figure("N: merger CPU an item, ns", r.cpu("N"), 85, 60, form="%.0f"),
        lambda: Figure("L: wall / drain", r.wall("L", MERGER, "drain"), 1.25, 1.05),
        lambda: Figure("F: wall / drain", r.wall("F", MERGER, "drain"), 1.35, 1.05),
        lambda: Figure("R: merger CPU an item, ns", r.cpu("R"), 55, 40, form="%.0f"),
        lambda: Figure("D: merger CPU an item, ns", r.cpu("D"), 55, 40, form="%.0f"),
        lambda: Figure("K: wall / drain, both of 4096 lists", r.wall("K", MERGER, "drain", "4096 lists"), 2.5, 1.6),
        lambda: scale_figure(r, sizes),
        lambda: link_figure(r, sizes),
        lambda: Figure("H: items fetched, most of any list", [r.find("H", f"{MERGER}, direct", "--limit 10").fetched], 64, 16,
                       form="%d"),
        lambda: short_wall_figure(r, f"{MERGER}, direct", 0),
        lambda: short_wall_figure(r, f"{MERGER}, 10 ms", 10),
        lambda: memory_figure(r),
    ]
    for what in ("N, 1 worker", "L, 1 worker"):
        rows.append(lambda w=what: Figure(f"W: {w}: redis-cli --pipe, 1000 a RPUSH / ours", r.wall("W", thousand, "nwm-worker", w),
                                          0.9, 1.1, True))
        rows.append(lambda w=what: Figure(f"W: {w}: redis-cli --pipe, 1 a RPUSH / ours", r.wall("W", one, "nwm-worker", w), 4, 6,
                                          True))
    return rows


def print_verdicts(cases, sizes):
    """Returns the rows as written, for the CSV."""
    rows = [["figure", "measured (min–max)", "at least", "aim", "verdict"]]
    for make in all_figures(Results(cases), sizes):
        try:
            rows.append(make().row())
        except (KeyError, ValueError, AttributeError):
            continue  # that workload was not asked for
    if len(rows) > 1:
        print_rows(rows)
    return rows


# ---- the heap, and files ---------------------------------------------------------------------------------------------

def heap_rows(heap):
    names = list(dict.fromkeys(name for _, _, name, _ in heap))
    cells = {(kind, k, name): ns for kind, k, name, ns in heap}
    rows = [["keys", "k", *names]]
    for kind, k in dict.fromkeys((kind, k) for kind, k, _, _ in heap):
        rows.append([kind, k, *[cells[kind, k, name] for name in names]])
    return rows


FIGURES = ("wall", "cpu", "server_cpu", "rss", "server_rss")


def write_csv(path, cases):
    with open(path, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["workload", "variant", "peer", "items", "round", "wall_s", "client_cpu_s", "redis_cpu_s", "client_peak_kib",
                      "redis_peak_kib"])
        for (letter, variant), series in cases.items():
            for name, s in series.items():
                for i, sample in enumerate(s.samples):
                    out.writerow([letter, variant, name, s.items, i + 1, *[getattr(sample, f) for f in FIGURES]])


def write_rows(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
