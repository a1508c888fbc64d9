"""A folder in which all stages have run."""

from pathlib import Path

import pytest

from tests import tracked


@pytest.fixture
def tracked_folder(tmp_path, empty_store, monkeypatch) -> Path:
    """The working folder, with a store that has no run yet."""
    tracked.enter(tmp_path, empty_store, monkeypatch)
    return tmp_path
