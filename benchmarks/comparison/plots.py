"""The plots of the page, each for a light and for a dark background."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot

from benchmarks.comparison.tables import Run, rate

FOREGROUNDS: Final = {"light": "#1f2328", "dark": "#d1d7e0"}

# By Okabe and Ito: they can be told apart by people who do not see all colours, on both backgrounds.
COLOURS: Final = {
    "blocking": "#0072b2",
    "asyncio": "#56b4e9",
    "trio": "#009e73",
    "core": "#999999",
    "go": "#e69f00",
    "cli": "#cc9a3a",
    "aiodocker": "#d55e00",
    "docker-py": "#cc79a7",
    "dockerode": "#8c6bb1",
}

SHOWN: Final = ("lines", "alternating", "build-log", "32k", "tty", "tls-32k")


def throughput(run: Run) -> Any:
    """A figure: a group of bars for each workload, on a logarithmic scale."""
    names = [name for name in COLOURS if name in run.clients and name != "core"]
    rows = [(workload, results) for workload, results in run.rows if workload.name in SHOWN]
    figure, axes = pyplot.subplots(figsize=(9, 1 + 1.05 * len(rows)))
    height = 0.85 / len(names)
    for at, name in enumerate(names):
        places, values = [], []
        for number, (workload, results) in enumerate(rows):
            result = results.get(name)
            if result is not None and result.seconds is not None:
                places.append(number + (at - (len(names) - 1) / 2) * height)
                values.append(rate(workload, result))
        axes.barh(places, values, height=height * 0.9, color=COLOURS[name], label=run.clients[name].title)
    axes.set_yticks(range(len(rows)), [workload.title.replace(", ", ",\n") for workload, _ in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(left=1)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("MB/s of payload (logarithmic)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1.13), ncols=4, frameon=False)
    return figure


def scale(run: Run) -> Any:
    """A figure: memory, time to open, and throughput, over the number of open attachments."""
    figure, (memory, time, rates) = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for framework, rows in run.scale.items():
        counts = [row["count"] for row in rows]
        style: dict[str, Any] = {"color": COLOURS[framework], "marker": "o", "label": framework}
        memory.plot(counts, [row["bytes"] * row["count"] / 2**20 for row in rows], **style)
        if framework != "core":
            time.plot(counts, [row["seconds"] for row in rows], **style)
            rates.plot(counts, [row["megabytes"] for row in rows], **style)
    memory.set_ylabel("MiB of all together")
    time.set_ylabel("seconds to open all")
    rates.set_ylabel("MB/s of all together")
    for axes in (memory, time, rates):
        axes.set_xlabel("open attachments")
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter("{x:,.0f}")
    memory.legend(frameon=False)
    return figure


def write(run: Run, directory: Path) -> Iterator[Path]:
    """Write each plot that this run has figures for, twice; the files that were written."""
    wanted = [("throughput", throughput)] * bool(run.rows) + [("scale", scale)] * bool(run.scale)
    for background, foreground in FOREGROUNDS.items():
        keys = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
        settings: dict[str, Any] = dict.fromkeys(keys, foreground) | {
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.family": "sans-serif",
            "svg.fonttype": "none",  # text stays text
            "svg.hashsalt": "attachproto",  # the same names of parts in each run
        }
        with mpl.rc_context(settings):
            for name, draw in wanted:
                path = directory / f"performance-{name}-{background}.svg"
                figure = draw(run)
                figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
                pyplot.close(figure)
                yield path
