"""Figures as text."""

import statistics

from .rows import present

MET = {True: "met", False: "NOT MET", None: "not measured"}


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        print("  " + "  ".join(cells).rstrip())


def number(value):
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def figures(row, samples):
    """What each tunnel reached: the median of the rounds, the smallest and the largest."""
    names = list(dict.fromkeys(key for rounds in samples.values() for f in present(rounds) for key in f))
    if not names:
        return

    def cell(values):
        if not values:
            return "-"
        spread = f" ({number(min(values))}-{number(max(values))})" if len(values) > 1 else ""
        return number(statistics.median(values)) + spread

    print(f"\n{row.title}: medians (smallest-largest)")
    table([["", *(f"{name} {row.measure.units.get(name, '')}".strip() for name in names)], *(
        [tunnel, *(cell([f[name] for f in present(rounds) if name in f]) for name in names)]
        for tunnel, rounds in samples.items())])


def verdicts(results):
    """A line for each bar of each row."""
    lines = [["row", "figure", "ours", "theirs", "ratio", "bar", ""]]
    for row, judged in results:
        for bar, verdict in zip(row.bars, judged):
            if verdict is None:
                lines.append([row.name, bar.figure, "-", "-", "-", bar.text(), MET[None]])
                continue
            ours = number(verdict["ours"]) + (f" ({verdict['tunnel']})" if verdict["tunnel"] != "underpass" else "")
            theirs = f"{number(verdict['theirs'])} ({verdict['peer']})" if "peer" in verdict else "-"
            ratio = f"{verdict['ratio']:.2f}" if "ratio" in verdict else "-"
            lines.append([row.name, bar.figure, ours, theirs, ratio, verdict["bar"], MET[verdict["met"]]])
    print("\nmedians, and the median of the rounds' ratios")
    table(lines)
