"""``make docs``: the site is built without a warning, and every link in it leads to something, anchors included."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.pages import ROOT, Page


@cache
def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def values(path: Path, tags: set[str], names: set[str]) -> list[str]:
    """Those of the page's attributes of these names, of any element if there are no tags."""
    return [value for tag, name, value in page(path).attributes if name in names and (tag in tags or not tags)]


def loaded(path: Path) -> list[str]:
    return values(path, {"script", "link", "img"}, {"src", "href"})


@pytest.mark.long
def test_the_site_is_built_and_its_links_lead_somewhere(tmp_path):
    pytest.importorskip("mkdocs", reason="it is of the extra docs, which make test-all installs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    pages = sorted(path for path in tmp_path.glob("*.html") if path.name != "404.html")  # its links are of a server
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} - {"README"} <= {path.stem for path in pages}
    for path in pages:
        for link in values(path, {"a"}, {"href"}):
            leads_somewhere(path, link)
        for address in loaded(path):
            assert not urlsplit(address).netloc, f"{path.name} fetches {address}"
    theory = (tmp_path / "theory.html").read_text()
    assert theory.count("<math") > 20
    assert "arithmatex" not in theory
    assert 'class="mermaid"' in (tmp_path / "concepts.html").read_text()
    index = (tmp_path / "search/search_index.json").read_text()
    assert "fingerprint" in index
    assert (tmp_path / "search/search_index.js").read_text() == f"var __index = {index}"  # without a server
    assert "site_search.js" in loaded(tmp_path / "index.html")


def leads_somewhere(path: Path, link: str) -> None:
    parts = urlsplit(link)
    if parts.netloc or parts.scheme:
        return
    found = path.parent / unquote(parts.path) if parts.path else path
    found = found / "index.html" if found.is_dir() else found
    assert found.is_file(), f"{path.name}: {link}"
    if parts.fragment and found.suffix == ".html":
        assert unquote(parts.fragment) in values(found, set(), {"id", "name"}), f"{path.name}: {link}"
