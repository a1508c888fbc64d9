"""Write docs/bad-inputs.md: every bad input, and the line that it printed just now."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.hostile.bad_inputs import CASES, document
from tests.hostile.case import run


def main() -> None:
    path = Path("docs/bad-inputs.md").absolute()
    outcomes = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder) / "work"
            work.mkdir()
            os.chdir(work)
            outcomes.append(run(case))
            os.chdir("/")
    path.write_text(document(CASES, outcomes))
    print(f"{path}: {len(CASES)} bad inputs")


if __name__ == "__main__":
    main()
