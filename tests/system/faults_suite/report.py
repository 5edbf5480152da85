"""A line a row as it ends, the table at the end, and the same for the README."""
import time


class Tally:
    """What came of a row."""

    def __init__(self, row, points):
        self.row, self.points = row, points
        self.words, self.violations, self.missed, self.done = {}, [], 0, 0
        self.skipped = None
        self.began = None
        self.seconds = 0.0

    def add(self, words):
        for word, count in words.items():
            self.words[word] = self.words.get(word, 0) + count

    @property
    def injected(self):
        return sum(self.words.values()) + len(self.violations)

    @property
    def result(self):
        if self.skipped:
            return "left out: " + self.skipped
        words = ", ".join(f"{count} {word}" for word, count in sorted(self.words.items(), key=lambda w: (-w[1], w[0])))
        return words + (f", {len(self.violations)} VIOLATIONS" if self.violations else "")


def print_row(t):
    print(f"{t.row.name:27} {t.injected:5}  {t.seconds:6.1f} s  {t.result}", flush=True)


def print_violation(row, seed, i, why, kept):
    print(f"VIOLATION in {row.name}, point {i}: {why}\n"
          f"    again: tests/system/faults --seed {seed} --row {row.name} --point {i}\n"
          f"    kept: {kept}", flush=True)


def print_end(tallies, began, seed):
    injected, violations = sum(t.injected for t in tallies), sum(len(t.violations) for t in tallies)
    left_out = [t.row.name for t in tallies if t.skipped]
    print(f"\n{injected} faults injected in {len(tallies) - len(left_out)} rows, {violations} violations, "
          f"{time.monotonic() - began:.0f} s, seed {seed}")
    if left_out:
        print(f"left out: {', '.join(left_out)}")
    for t in tallies:
        for i in t.violations:
            print(f"VIOLATION: tests/system/faults --seed {seed} --row {t.row.name} --point {i}")


def markdown(tallies, seed):
    lines = ["| fault | how | what holds | injected | result |", "|---|---|---|---|---|"]
    lines += [f"| {t.row.fault} | {t.row.how} | {t.row.holds} | {t.injected} | {t.result} |" for t in tallies]
    return "\n".join(lines) + f"\n\n{sum(t.injected for t in tallies)} faults, " \
        f"{sum(len(t.violations) for t in tallies)} violations (seed {seed}).\n"
