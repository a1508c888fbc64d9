"""The content of a run, without a store."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.tracking import record
from ddpm.training.history import Row

reals = st.floats(min_value=1e-9, max_value=1e9)


@given(st.builds(Row, st.integers(1, 10**7), reals, reals, reals, reals, reals))
def test_a_live_row_and_the_row_in_the_file_are_one_point(row: Row) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([Row._fields, [row.step, *(f"{value:.6g}" for value in row[1:])]])
    (read,) = csv.DictReader(io.StringIO(text.getvalue()))
    assert record.Point.of(row._asdict()) == record.Point.of(read)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:p@ss@host:8080/a?sig=1", "https://***@host:8080/a"),
        ("cannot reach http://u:p@h/x now", "cannot reach http://***@h/x now"),
        ("git@example.org:group/repo.git", "git@example.org:group/repo.git"),
        ("/home/me/photos", "/home/me/photos"),
    ],
)
def test_credentials_in_urls_are_masked(text: str, shown: str) -> None:
    assert record.masked(text) == shown
