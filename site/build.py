"""Builds the documentation site from the Markdown of the repository.

Run by `make site`: python site/build.py. Pages are gathered in build/site/pages, the
site is written to build/site/html. Files that pages link to outside of docs/ become
pages too, and so do notebooks; the reference has a page for each room with public
names. A warning, a dead link, and anything that a reader's browser would fetch from a
network ends the build with 1.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SITE = ROOT / "site"
WORK = ROOT / "build" / "site"
PAGES = WORK / "pages"
OUTPUT = WORK / "html"
WORKER = "assets/javascripts/file_worker.js"
REMOTE_WORKER = "https://unpkg.com/iframe-worker/shim"
# Pages outside of docs/ that the navigation has.
FRONT = ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCED = re.compile(r"^(?:```.*?^```$|~~~.*?^~~~$)", re.MULTILINE | re.DOTALL)
# Room of the package -> what its page is called.
ROOMS = {
    "arm": "Instructions on ARM",
    "budget": "One budget",
    "channels": "Channels",
    "engine": "Methods that act in training",
    "errors": "Errors",
    "export": "Export",
    "file_verification": "Verification",
    "firmware": "C++ for microcontrollers",
    "layer_sensitivity": "Sensitivity of layers",
    "measurement": "Measurement",
    "models": "Models",
    "numerics": "Patterns and grids",
    "one_shot": "Without training",
    "packing": "Packed files",
    "pipeline": "Recipes (`penjing.pipeline`)",
    "progress": "Progress",
    "proof": "Proof",
    "rebuilding": "Models of files",
    "report": "Reports",
    "runtime": "Runtimes",
    "shrinking": "Smaller files",
    "sparse": "Zeros that pay",
    "tfmot": "The older toolkit's names (`penjing.tfmot`)",
    "web": "WebAssembly",
}


def main() -> int:
    shutil.rmtree(WORK, ignore_errors=True)
    gather()
    write_reference()
    shutil.copy(SITE / "zensical.toml", WORK)
    shutil.copy(SITE / "site.css", PAGES)
    (PAGES / WORKER).parent.mkdir(parents=True)
    shutil.copy(SITE / "file_worker.js", PAGES / WORKER)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=WORK, check=False)
    put_own_worker()
    faults = sorted(set(site_faults()))
    print(*faults, sep="\n", end="\n" if faults else "")
    count = len(list(OUTPUT.rglob("*.html")))
    print(f"{count} pages in {OUTPUT.relative_to(ROOT)}, {len(faults)} faults")
    return 1 if done.returncode or faults or not count else 0


def gather() -> None:
    """Copy docs/ and what its pages lead to, links changed to where things then lie."""
    waiting = sorted(path for path in DOCS.rglob("*") if path.is_file())
    waiting += [ROOT / name for name in FRONT]
    done: set[Path] = set()
    while waiting:
        source = waiting.pop()
        if source in done:
            continue
        done.add(source)
        target = PAGES / place_of(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            text, linked = with_links_of_the_site(source)
            target.write_text(text, "utf-8")
            waiting += linked
        elif target.suffix == ".md":
            target.write_text(listing(source), "utf-8")
        else:
            shutil.copy(source, target)


def place_of(source: Path) -> Path:
    """Where a file of the repository lies among the pages."""
    if source.suffix == ".ipynb":
        return source.relative_to(DOCS).with_suffix(".md")
    if source.is_relative_to(DOCS):
        return source.relative_to(DOCS)
    path = source.relative_to(ROOT)
    return path if path.suffix == ".md" else path.with_name(f"{path.name}.md")


def listing(source: Path) -> str:
    """A page that shows a file: the cells of a notebook, or the text."""
    if source.suffix == ".ipynb":
        cells = json.loads(source.read_text("utf-8"))["cells"]
        texts = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
        return "\n\n".join(
            text if kind == "markdown" else f"```python\n{text}\n```"
            for text, kind in texts
        )
    language = source.suffix.lstrip(".")
    text = source.read_text("utf-8")
    return f"# {source.name}\n\n~~~~{language}\n{text}\n~~~~\n"


def with_links_of_the_site(document: Path) -> tuple[str, list[Path]]:
    """The text with links that work in the site, and the files that it leads to."""
    linked: list[Path] = []
    here = place_of(document).parent

    def changed(match: re.Match[str]) -> str:
        picture, text, link = match.groups()
        path, mark, anchor = link.partition("#")
        target = (document.parent / path).resolve()
        if not path or "://" in link or not target.is_relative_to(ROOT):
            return match[0]
        if target.is_dir():
            return text
        if not target.exists():
            return match[0]  # the build says that it is dead
        linked.append(target)
        place = os.path.relpath(place_of(target), here)
        return f"{picture}[{text}]({place}{mark}{anchor})"

    text = document.read_text("utf-8")
    parts, end = [], 0
    for fence in [*FENCED.finditer(text), None]:
        begin = fence.start() if fence else len(text)
        parts += [LINK.sub(changed, text[end:begin]), fence[0] if fence else ""]
        end = fence.end() if fence else end
    return "".join(parts), linked


def write_reference() -> None:
    """A page for each room with public names, and an index of all names."""
    rooms: dict[str, list[str]] = {}
    for module, name in public_names():
        rooms.setdefault(module.split(".")[1], []).append(f"{module}.{name}")
    folder = PAGES / "reference"
    folder.mkdir()
    lines = ["# Reference", "", "What `penjing` offers, from its docstrings.", ""]
    for room in sorted(rooms, key=lambda room: ROOMS[room].lower()):
        paths = sorted(rooms[room], key=lambda path: path.rsplit(".", 1)[1].lower())
        blocks = [f"::: {path}" for path in paths]
        page = [f"# {ROOMS[room]}", *blocks]
        (folder / f"{room}.md").write_text("\n\n".join(page) + "\n", "utf-8")
        links = [f"[`{path.rsplit('.', 1)[1]}`]({room}.md#{path})" for path in paths]
        lines += [f"**[{ROOMS[room]}]({room}.md)**: {' · '.join(links)}", ""]
    (folder / "index.md").write_text("\n".join(lines), "utf-8")


def public_names() -> Iterator[tuple[str, str]]:
    """Module and name of all that is public; nothing is imported for it."""
    package = ROOT / "src" / "penjing"
    doors = [package / "public_names.py", package / "pipeline" / "__init__.py"]
    doors += sorted((package / "tfmot").glob("*/**/*.py"))
    for door in doors:
        tree = ast.parse(door.read_text("utf-8"))
        place = door.parent if door.name == "__init__.py" else door.with_suffix("")
        own = ".".join(place.relative_to(ROOT / "src").parts)
        exported = {
            element.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and getattr(node.targets[0], "id", "") == "__all__"
            for element in node.value.elts  # type: ignore[attr-defined]
        }
        for node in tree.body:
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            for alias in node.names:
                if alias.name in exported and alias.name != "__version__":
                    at = node.module if door.name == "public_names.py" else own
                    yield at, alias.name


def put_own_worker() -> None:
    """Let pages load our file in place of the one that the plugin takes from a CDN."""
    for path in OUTPUT.rglob("*.html"):
        own = os.path.relpath(OUTPUT / WORKER, path.parent)
        path.write_text(path.read_text("utf-8").replace(REMOTE_WORKER, own), "utf-8")


class Page(HTMLParser):
    """The anchors of a page, where its links lead, and what it loads."""

    def __init__(self, path: Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        link = values.get("href")
        if tag == "a" and link:
            self.links.append(link)
        elif tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.loads += [link] if link else []
        if tag in ("script", "img", "iframe", "source", "video") and "src" in values:
            self.loads.append(values["src"])


def site_faults() -> Iterator[str]:
    """Dead links and anchors, and what would be fetched, of all pages."""
    pages = {path: Page(path) for path in sorted(OUTPUT.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(OUTPUT)
        if name.name == "404.html":  # its links are those of a server's root
            continue
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    yield f"{name}: fetches {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve()
            target = target if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name}: {link} leads nowhere"
            anchor, there = unquote(parts.fragment), pages.get(target)
            if anchor and there and anchor not in there.anchors:
                yield f"{name}: {link} has no such anchor"


if __name__ == "__main__":
    sys.exit(main())
