"""The pages of docs/, block by block, and pages of HTML as a browser sees them."""

import re
import shlex
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "AGENTS.md", *(ROOT / "docs").glob("*.md")])


HEREDOC = re.compile(r"^cat > (\S+) <<(\w+)\n(.*?)^\2\n", re.S | re.M)


class Block(NamedTuple):
    """preset: the last one that the page wrote before this block, or in it."""

    page: str
    mark: str
    language: str
    text: str
    preset: str

    @property
    def files(self) -> dict[str, str]:
        """What its shell writes into files, by ``cat``."""
        return {name: text for name, _, text in HEREDOC.findall(self.text)}

    @property
    def lines(self) -> list[list[str]]:
        joined = HEREDOC.sub("", self.text).replace("\\\n", " ").splitlines()
        commands = (part for line in joined for part in line.split(" | "))
        return [words for command in commands if (words := shlex.split(command, comments=True))]


@cache
def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        preset = "digits"
        for mark, language, text in re.findall(
            r"(?:<!-- ([^\n]*) -->\n)?^```(\w*)\n(.*?)^```$", page.read_text(), re.S | re.M
        ):
            preset = (re.findall(r"^ddpm preset (\w+)", text, re.M) or [preset])[-1]
            found.append(Block(page.name, mark, language, text, preset))
    return found


class Page(HTMLParser):
    """What a browser would see of a page: the attributes of its elements, and their text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.missing: list[str] = []
        self.text = ""
        self.open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.open = dict(attrs).get("class") or ""

    def handle_data(self, data: str) -> None:
        if self.open == "missing" and data.strip():
            self.missing.append(data)
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        self.open = ""
