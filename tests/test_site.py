"""``make docs``: the site is built without a warning, and every link in it leads to something, anchors included."""

import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]


class Page(HTMLParser):
    """What a page links to, what it loads, and which anchors it has."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        self.loaded += [found[name] for name in ("src", "href") if name in found and tag in {"script", "link", "img"}]


page = cache(Page)


def test_every_page_is_in_the_contents_of_the_site():
    text = (ROOT / "mkdocs.yml").read_text()
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f" {path.name}\n" not in text] == []


@pytest.mark.long
def test_the_site_is_built_and_its_links_lead_somewhere(tmp_path):
    pytest.importorskip("mkdocs", reason="it is of the extra docs, which make test-all installs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    pages = sorted(path for path in tmp_path.glob("*.html") if path.name != "404.html")  # its links are of a server
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} - {"README"} <= {path.stem for path in pages}
    for path in pages:
        for link in page(path).links:
            leads_somewhere(path, link)
        for address in page(path).loaded:
            assert not urlsplit(address).netloc, f"{path.name} fetches {address}"
    theory = (tmp_path / "theory.html").read_text()
    assert theory.count("<math") > 20
    assert "arithmatex" not in theory
    assert 'class="mermaid"' in (tmp_path / "concepts.html").read_text()
    index = (tmp_path / "search/search_index.json").read_text()
    assert "fingerprint" in index
    assert (tmp_path / "search/search_index.js").read_text() == f"var __index = {index}"  # without a server
    assert "site_search.js" in page(tmp_path / "index.html").loaded


def leads_somewhere(path: Path, link: str) -> None:
    parts = urlsplit(link)
    if parts.netloc or parts.scheme:
        return
    found = path.parent / unquote(parts.path) if parts.path else path
    found = found / "index.html" if found.is_dir() else found
    assert found.is_file(), f"{path.name}: {link}"
    if parts.fragment and found.suffix == ".html":
        assert unquote(parts.fragment) in page(found).anchors, f"{path.name}: {link}"
