"""What mkdocs does to the pages of docs/ beyond its theme, so that they read on the site as they do on GitHub.

pdoc writes the API reference into api/. Links that leave docs/ lead there if they are to code, else to a copy of the
file on the site. Formulas become MathML, which browsers draw without a script. The tutorial is a notebook too.
"""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from warnings import catch_warnings, simplefilter

import jupytext
import pdoc
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
API, COPIES = "api", "files"
LINK = re.compile(r"(\[(?:`([\w.]+)`)?[^\]\[]*\]\()\.\./([^)#\s]+)(?:#[^)\s]*)?\)")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)
TUTORIAL = "tutorial.md"
FRONT = "README.md"
SHOWN_AS_THEY_ARE = {".html", ".json", ".png"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The API reference, one file for each module."""
    with TemporaryDirectory() as folder, catch_warnings():
        simplefilter("ignore")  # names that are imported for type checking alone
        pdoc.pdoc("ddpm", "stages", output_directory=Path(folder))
        for path in sorted(Path(folder).rglob("*.html")):
            name = f"{API}/{path.relative_to(folder)}"
            files.append(File.generated(config, name, content=path.read_text(encoding="utf-8")))
    return files


def on_config(config: MkDocsConfig) -> None:
    """A link to the repository, on each page of a site that GitHub builds."""
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        config.repo_name, config.repo_url = repository, f"https://github.com/{repository}"


def on_post_build(config: MkDocsConfig) -> None:
    """The search's index as a script: pages that are opened from a folder may read no JSON. The tutorial's notebook."""
    index = Path(config.site_dir, "search/search_index.json")
    index.with_suffix(".js").write_text(f"var __index = {index.read_text(encoding='utf-8')}", encoding="utf-8")
    notebook = jupytext.read(Path(config.docs_dir, TUTORIAL))
    jupytext.write(notebook, Path(config.site_dir, TUTORIAL).with_suffix(".ipynb"))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links out of docs/, as links within the site."""

    def lead(found: re.Match[str]) -> str:
        return f"{found[1]}{target(found[2], found[3], files, config)})"

    if page.file.src_uri == FRONT and config.repo_url:
        markdown = markdown.replace("git clone ADDRESS", f"git clone {config.repo_url}")
    return LINK.sub(lead, markdown)


def target(name: str | None, path: str, files: Files, config: MkDocsConfig) -> str:
    """Where a link to ``path``, relative to the project, leads. name: of the function or class that the link shows."""
    at = ROOT / path
    module = at if at.is_dir() else at.with_suffix("")
    if path.startswith(("ddpm", "stages")) and (at.suffix == ".py" or (at / "__init__.py").exists()):
        return f"{API}/{module.relative_to(ROOT)}.html" + (f"#{name}" if name and not name.startswith("ddpm.") else "")
    copy = f"{COPIES}/{path.strip('/')}" + ("" if at.suffix in SHOWN_AS_THEY_ARE else ".txt")
    if copy not in files.src_uris and at.is_dir():
        files.append(File.generated(config, copy, content="\n".join(sorted(each.name for each in at.iterdir()))))
    elif copy not in files.src_uris:
        files.append(File.generated(config, copy, abs_src_path=str(at)))
    return copy


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas as MathML."""

    def formula(found: re.Match[str]) -> str:
        return str(convert(html.unescape(found[3]).strip(), display="block" if found[2] == "[" else "inline"))

    return FORMULA.sub(formula, content)
