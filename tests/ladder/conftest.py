"""A ladder to search at once."""

import math
from pathlib import Path

import pytest
import yaml

from ddpm.arms import maker, revision
from ddpm.ladder import attempt, space
from tests.instant import Instant, landscape, run_at_once
from tests.ladders import FILE, SEARCH


@pytest.fixture
def instant(folder, monkeypatch, undrawn) -> None:
    """A working folder with a ladder, runs that take no time, and proposals at random, which take none either."""
    FILE.parent.mkdir()
    FILE.write_text(yaml.safe_dump(SEARCH))
    nothing = staticmethod(lambda params: {})
    for name, value in (("score", staticmethod(landscape)), ("more", nothing), ("patience", math.inf), ("count", 0)):
        monkeypatch.setattr(Instant, name, value)
    monkeypatch.setenv("DDPM_TRACKING", "off")
    monkeypatch.setattr(maker, "Pool", Instant)
    monkeypatch.setattr(space, "RANDOM", 10**6)
    monkeypatch.setattr(attempt, "_run", run_at_once)
    monkeypatch.setattr(revision, "check_committed", lambda *_: None)
    monkeypatch.setattr(revision, "find", lambda _: "")
    monkeypatch.setattr(revision, "export", lambda *_: Path())
