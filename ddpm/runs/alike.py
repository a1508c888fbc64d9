"""Which records have the same params, and in which keys others differ."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ddpm.base.errors import UserError
from ddpm.base.files import digest
from ddpm.base.sections import is_in
from ddpm.params import config
from ddpm.params.config import Config
from ddpm.runs import library
from ddpm.runs.library import Listing
from ddpm.runs.record import SEED, Record

T = TypeVar("T")
K = TypeVar("K")


def matching(records: Iterable[Record], working: Config, by: Iterable[str] = ()) -> Listing:
    """The records whose params differ from ``working`` only in ``by``, the seed and keys that change no result, in
    order of seed.

    Of a program's run only the params that are known count. Among records with the same params, one made by the
    checked-out code is preferred, then the newest; a note says if their scores differ. Raises UserError if there is
    none; it names the keys in which the most similar one differs.
    """
    by, here = tuple(by), working.flat()
    candidates = [run for run in records if not run.diverged]
    close = [run for run in candidates if not differences(run, here, by)]
    notes = [f"left out {run.name}: its training seed is unknown" for run in close if run.seed is None]
    same = group_by((run for run in close if run.seed is not None), lambda run: _identity(run, by))
    if not same:
        varying = " and ".join(filter(None, [", ".join(by), "the seed"]))
        nearest = "there is none; `dvc exp run -S seed=1` makes one"
        if candidates:
            run = min(candidates, key=lambda run: len(differences(run, here, by)))
            nearest = f"the nearest, {run.name}, differs in {unlike(differences(run, here, by), run.params, here)}"
        why = f"no scored run has the params of params.yaml apart from {varying}: {nearest}"
        raise UserError("; ".join([why, *notes]))
    for group in same.values():
        if len(group) > 1:
            group.sort(key=lambda run: (library.is_checked_out(run), run.finished))
            if any(run.scores != group[-1].scores for run in group):
                names = ", ".join(run.name for run in group)
                notes.append(f"same params, other scores, from other code or data: {names}; used the last")
    return Listing(tuple(sorted((group[-1] for group in same.values()), key=lambda run: run.seed or 0)), tuple(notes))


def differences(run: Record, params: Mapping[str, Any], by: tuple[str, ...] = ()) -> list[str]:
    """The keys in which a run's params differ from others, without those of ``by``, the seed and those that change no
    result. A key that one side does not have, because it is newer than a record, has its default there."""
    keys = config.list_differing(run.params, params)
    known = run.params.keys() & params.keys() if run.program else keys
    return [key for key in keys if key in known and key != SEED and not is_in(key, by)]


def unlike(keys: Iterable[str], there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What both have under the first of the keys in which they differ, for a message."""
    return some([f"{key} ({there.get(key)} there, {here.get(key)} here)" for key in keys], 4)


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are, for a message."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def group_by(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items by key, in the order in which they come."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _identity(run: Record, by: tuple[str, ...]) -> str:
    """Equal for runs that differ neither in ``by`` nor in the seed, of those that differ in no other result."""
    varying = {key: value for key, value in run.params.items() if is_in(key, by) and value != config.default(key)}
    return digest([varying, run.seed, run.program])
