"""The file that a run leaves: what each case found, or its whole error. It is written after each case, so that nothing
that comes later can lose it, and it is enough to repair a fault on a machine without a GPU."""

import json
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ddpm.base.files import write_json

# what a case measures, by name; None for one that only passes or fails
Figures = Mapping[str, Any] | None
Case = Callable[[], Figures]


class LeftOut(Exception):
    """Raised by a case that this machine cannot run, with the reason."""


class Report:
    def __init__(self, path: Path):
        self.path = path
        self.groups: dict[str, dict[str, dict[str, Any]]] = {}

    def run(self, group: str, cases: Iterable[tuple[str, Case]]) -> None:
        """Run all of the cases, whatever comes of any of them."""
        remaining = iter(cases)
        while True:
            begin, name, entry = time.monotonic(), "the list of cases", {}
            try:
                name, case = next(remaining, ("", None))
                if case is None:
                    return
                entry["figures"] = case()
            except LeftOut as reason:
                entry["left_out"] = str(reason)
            except Exception as error:
                entry["error"] = f"{type(error).__name__}: {error}"
                entry["traceback"] = traceback.format_exc()
            entry["seconds"] = round(time.monotonic() - begin, 2)
            self.groups.setdefault(group, {})[name] = entry
            # the numbers that JSON does not have are words
            write_json(self.path, json.loads(json.dumps(self.groups, default=str), parse_constant=str))
            text = entry.get("error", entry.get("left_out", "passed")).partition("\n")[0]
            print(f"{entry['seconds']:6.1f} s  {group}: {name}: {text}", flush=True)

    def failures(self) -> list[str]:
        """Group and name of each case that failed."""
        entries = [(f"{group}: {name}", entry) for group, cases in self.groups.items() for name, entry in cases.items()]
        return [name for name, entry in entries if "error" in entry]
