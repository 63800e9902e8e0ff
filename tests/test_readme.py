"""What the documents say is so: paths exist, modules are listed, commands parse, names can be imported."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

import medground
from medground.cli import app

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SHELL = ("sh", "bash", "shell", "console")


def blocks(path: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(path.read_text(encoding="utf-8")) if language in languages]


def tree() -> dict[str, str]:
    """Return the README's tree as path -> annotation; a name that ends with a slash is a folder."""
    [body] = [block for block in blocks(README, "text") if block.startswith("medground/")]
    found: dict[str, str] = {}
    folders: list[str] = []
    for line in body.splitlines():
        name, _, annotation = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name] if name.endswith("/") else []
        path = "".join(folders[:depth]) + name
        assert path not in found, f"{path} is listed twice"
        found[path] = annotation.strip()
    return found


def commands(path: Path) -> list[str]:
    """Return the lines of shell blocks, and the inline code, that call medground."""
    lines = [
        line.removeprefix("$ ") for body in blocks(path, *SHELL) for line in body.replace("\\\n", " ").splitlines()
    ]
    prose = FENCE.sub("", path.read_text(encoding="utf-8"))
    inline = re.findall(r"`(medground [^`]+)`", prose)
    return [line for line in (*lines, *inline) if re.match(r"medground\s", line)]


CALLS = [(path, line) for path in DOCUMENTS for line in commands(path)]


@pytest.mark.parametrize("path", tree())
def test_the_tree_lists_what_exists(path):
    assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file()


def test_the_tree_says_something_about_each_path():
    silent = [path for path, words in tree().items() if not words]
    assert not [path for path in silent if "/" in path.rstrip("/")]  # a folder at the top may speak for itself


def test_the_tree_lists_every_file_of_the_package_but_models():
    files = (file for file in (ROOT / "medground").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    there = {file.relative_to(ROOT).as_posix() for file in files}
    assert {path for path in there if not path.startswith("medground/reasoners/nano/")} <= set(tree())


@pytest.mark.parametrize("folder", ["benchmarks", "recipes"])
def test_the_tree_lists_every_script(folder):
    there = {file.relative_to(ROOT).as_posix() for file in (ROOT / folder).iterdir() if file.is_file()}
    assert there <= set(tree())


def test_the_documents_show_commands():
    assert len([line for path, line in CALLS if path == README]) >= 8
    assert {line.split()[1] for path, line in CALLS if path == README} >= {"ground", "doctor"}


@pytest.mark.parametrize(("path", "line"), CALLS)
def test_each_command_parses(path, line):
    group: Any = typer.main.get_command(app)
    _, name, *arguments = shlex.split(line, comments=True)
    assert name in group.commands, f"{path.name}: there is no command {name}"
    if hasattr(group.commands[name], "commands"):
        group = group.commands[name]
        if not arguments:
            return
        name, *arguments = arguments
        assert name in group.commands, f"{path.name}: there is no command {name} in that group"
    context = group.commands[name].make_context(f"medground {name}", arguments)  # raises on what it doesn't know
    if name == "ground":
        given = context.params
        whole = given["image"] is not None and given["question"] is not None
        assert whole or given["batch"] is not None, f"{path.name}: {line} asks nothing"
        assert given["batch"] is None or given["out"] is not None, f"{path.name}: {line} needs --out"


def test_a_wrong_option_would_be_seen():
    group: Any = typer.main.get_command(app)
    with pytest.raises(Exception, match="No such option"):
        group.commands["ground"].make_context("medground ground", ["image.png", "Where?", "--slices", "3"])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_and_scripts_exist(path):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make (\w+)", text, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), f"make {target}"
    for script in re.findall(r"(?:^|`)python (benchmarks/\w+\.py)", text, re.M):
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_use_public_names(path):
    for body in blocks(path, "python"):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and node.module == "medground":
                assert {name.name for name in node.names} <= set(medground.__all__)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(path):
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", text):
        if "://" not in link and not link.startswith("mailto:"):
            assert (path.parent / link).exists(), link


def test_the_research_notice_is_on_the_first_screen():
    assert medground.RESEARCH_USE in "\n".join(README.read_text(encoding="utf-8").splitlines()[:12])
