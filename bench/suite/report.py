"""Rows as they come: medians over the pairs, the share of the limit of each pair, the target, and whether it is met."""

import json
import statistics
import sys


def median(values):
    return statistics.median(values)


def spread(values, form="{:.0f}"):
    """The median, with the lowest and the highest where there are several."""
    text = form.format(median(values))
    if len(values) > 1:
        number = form[: form.index("}") + 1]  # the unit once is enough
        text += f" ({number.format(min(values))}–{number.format(max(values))})"
    return text


class Report:
    def __init__(self, about):
        self.about = about
        self.rows = []
        self.skipped = []

    def note(self, text):
        print(text, file=sys.stderr, flush=True)

    def row(self, name, result, limit="", share="", target="", met=None, figures=None):
        self.rows.append({"row": name, "result": result, "limit": limit, "share": share, "target": target, "met": met,
                          "figures": figures or {}})
        self.note(f"  {name}: {result}  {limit}  {share}  {target}  {'' if met is None else 'met' if met else 'not met'}")

    def share_row(self, name, values, limits, limit_name, target, figures, form="{:.0f} MB/s"):
        """Results beside a limit, pair by pair; the median of the pairs' shares counts."""
        shares = [100 * value / limit for value, limit in zip(values, limits)]
        self.row(name, spread(values, form), f"{limit_name} {form.format(median(limits))}", spread(shares, "{:.0f} %"),
                 f"≥ {target} %", median(shares) >= target, figures)

    def skip(self, name, reason):
        self.skipped.append({"row": name, "reason": reason})
        self.note(f"  {name}: SKIPPED, {reason}")

    def write(self, path):
        with open(path, "w") as file:
            json.dump({"about": self.about, "rows": self.rows, "skipped": self.skipped}, file, indent=1)
            file.write("\n")

    def table(self):
        """Markdown, padded so that it reads as text too."""
        titles = ["case", "result: median (range)", "limit", "share", "target", "met"]
        lines = [[row["row"], row["result"], row["limit"], row["share"], row["target"],
                  "" if row["met"] is None else "yes" if row["met"] else "no"] for row in self.rows]
        widths = [max(len(line[i]) for line in [titles, *lines]) for i in range(len(titles))]

        def show(line):
            return "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"

        out = [show(titles), "| " + " | ".join("-" * width for width in widths) + " |", *map(show, lines)]
        for skipped in self.skipped:
            out.append(f"\nskipped: {skipped['row']}: {skipped['reason']}")
        met = [row["met"] for row in self.rows if row["met"] is not None]
        out.append(f"\n{sum(met)} of {len(met)} targets met, {len(self.skipped)} skipped")
        return "\n".join(out)
