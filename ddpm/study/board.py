"""The progress of a study: one live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ddpm.base.progress import duration
from ddpm.compare import statistics
from ddpm.study import results, status
from ddpm.study.plan import Study
from ddpm.study.results import Ledger

REFRESH = 0.5  # times a second
TAIL = 2**16  # bytes of a log, enough to hold what its last stage wrote
STYLES = {"#": "green", ">": "bold yellow", "!": "bold red", ".": "dim", "|": "dim"}


@contextmanager
def shown(ledger: Ledger, at_once: int, plain: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows a line of progress. plain: print lines to stderr, because stdout is for programs."""
    if plain or not sys.stdout.isatty():
        yield lambda line: print(line, file=sys.stderr if plain else sys.stdout, flush=True)
        return
    from rich.live import Live

    table = Board(ledger, at_once)
    with Live(get_renderable=table.render, refresh_per_second=REFRESH) as live:
        yield lambda line: live.console.print(line, highlight=False, markup=False)


class Board:
    """The table, drawn from git and the logs."""

    def __init__(self, ledger: Ledger, at_once: int):
        self.ledger = ledger
        self.at_once = at_once
        self.begun = time.monotonic()

    def render(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        found = status.of(self.ledger)
        table = Table("variant", "seeds", "done", f"{found.study.plan.primary}", "from the baseline", box=None)
        for variant, signs, done, decided in status.rows(found):
            line = Text()
            for sign in signs:
                line.append(sign, STYLES[sign])
            table.add_row(variant, line, done, *_estimate(self.ledger, variant), decided)
        look, left = found.wanted()
        seconds = found.left(self.at_once)
        ahead = status.ahead(look, len(left)) if left else "complete"
        speed = f", {duration(found.seconds)} each on {self.at_once} slots" if found.seconds else ""
        rest = f", about {duration(seconds)} left" if seconds else ""
        running = [
            Text(_progress(found.study, name), "dim", no_wrap=True)
            for name, state in found.states.items()
            if state == "running"
        ]
        return Group(table, Text(f"{ahead}{speed}{rest}; running {duration(time.monotonic() - self.begun)}"), *running)


def _estimate(ledger: Ledger, variant: str) -> tuple[str, str]:
    """The primary metric's mean, and the mean and interval of its differences from the baseline, over the runs read;
    nothing for a source of noise."""
    study, metric = ledger.study, ledger.study.plan.primary
    if variant not in study.params:
        return "", ""
    arms: dict[str, dict[int, float]] = {name: {} for name in study.params}
    for each in study.experiments():
        if run := ledger.runs.get(each.name):
            arms[each.variant][each.seed] = run.scores[metric]
    import numpy as np

    own, base = arms[variant], arms[study.baseline]
    mean = f"{np.mean(list(own.values())):.4g}" if own else "-"
    both = np.array([own[seed] - base[seed] for seed in own if seed in base])
    if variant == study.baseline or len(both) < 2:
        return mean, "-"
    test = statistics.t_test(both, 0.0, study.settings.compare.confidence)
    return mean, f"{test.mean:+.3g} ({test.low:+.3g} to {test.high:+.3g})"


def _progress(study: Study, name: str) -> str:
    """How far an experiment is: its stage, and the last percentage that the stage reported."""
    path = results.state(study) / f"{name}.log"
    text = ""
    if path.exists():
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - TAIL))
            text = log.read().decode(errors="replace")
    stage, _, after = text.rpartition("Running stage '")[2].partition("'")
    percent = re.findall(r"(\d+%)\|", after)
    return f"{name}: {stage if after else 'begins'} {percent[-1] if percent else ''}"
