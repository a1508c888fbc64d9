"""A ladder in MLflow: a run with the climb, and below it the runs of its attempts and the trials of its searches."""

import sys

from ddpm.base import files
from ddpm.base.errors import UserError, printable
from ddpm.ladder import trials
from ddpm.ladder.climb import Climb
from ddpm.params import config
from ddpm.runs.record import Record
from ddpm.tracking import tracker
from ddpm.tracking.store import Store
from ddpm.tracking.tracker import Page

NAMES = ("climb.md", "climb.png", "search.md", "page.html")


def log(state: Climb) -> None:
    """Write the runs that MLflow does not have yet, unless tracking is off. A failure of the store is a warning: the
    next attempt logs the rest."""
    contest, store = state.contest, Store(strict=True)
    if contest.of_program:
        return
    primary, champion = contest.terms.primary, state.champion
    name = f"rung {champion.rung}, {champion.begin.entry}" if champion else f"the base, {contest.terms.base}"
    page = Page(
        "ddpm.ladder",
        contest.name,
        f"ladder {contest.name}",
        {"ddpm.primary": primary},
        f"{contest.terms.question}\n\nChampion: {name}. Attempts: {len(state.attempts)}. Trials are not evidence.",
        [contest.folder / name for name in NAMES],
    )

    def write() -> None:
        records = dict[str, Record]()
        for one in state.attempts:
            records |= {f"{name} {one.begin.entry}": run for name, run in state.runs(one).records.items()}
        parent, known = tracker.write_page(store, page, records)
        for number, trial in enumerate(trials.read(contest), 1):
            key = files.digest([contest.name, trial.seed, trial.key])
            if trial.score is not None and key not in known:
                scores = {primary: trial.score, **trial.guards, "seconds": trial.seconds}
                params = config.parse(contest.trial(trial.changes, trial.seed, trial.length)).flat()
                tracker.write_trial(store, parent, key, f"trial {number}", params, trial.changes, scores)

    try:
        store.attempt(write)
    except UserError as error:
        print(f"warning: {printable(str(error))}", file=sys.stderr)
