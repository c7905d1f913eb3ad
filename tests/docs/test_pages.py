"""The pages as text: what they name exists, every key and every error is explained."""

import ast
import importlib.util
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from efmodel.settings import Settings
from simulation import methods

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PACKAGES = ("efmodel", "client_app", "server_app", "simulation")
FOLDERS = (*PACKAGES, "docker", "docs", "tests")


def hook():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_is_one_screen():
    assert len((ROOT / "README.md").read_bytes()) <= 9000


def test_the_generated_table_has_every_key():
    tables = hook().tables()
    for field in fields(Settings):
        assert f"`{field.name.replace('_', '-')}` |" in tables, field.name
        assert field.metadata["meaning"] in tables, field.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page):
    text = page.read_text()
    named = set(re.findall(rf"\b((?:{'|'.join(FOLDERS)})/[\w./-]*\w)", text))
    named = {name for name in named if not re.search(r"[A-Z]{4}", name)}  # FOLDER, NAME
    absent = sorted(name for name in named if not (ROOT / name).exists())
    assert not absent


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_modules_that_a_page_names_exist(page):
    for module in re.findall(r"python -m ((?:\w+\.)*\w+)", page.read_text()):
        if module.split(".")[0] in PACKAGES:
            assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_keys_that_a_page_sets_exist(page):
    keys = {field.name.replace("_", "-") for field in fields(Settings)}
    for key in re.findall(r"--set (?:[A-Z]+ )?([a-z][a-z-]*)=", page.read_text()):
        assert key in keys, key


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_that_a_page_names_exist(page):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    commands = project["entry-points"]["ef_asr.commands"]
    for command in re.findall(r"\bef-asr ([a-z]\w*)", page.read_text()):
        assert command in commands, command


def test_every_method_is_explained():
    page = (ROOT / "docs" / "experiments.md").read_text()
    for name in methods.names():
        assert f"`{name}`" in page, name


def own_exceptions() -> set[str]:
    """Return the names of the exception classes that the four packages define."""
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                    found.add(node.name)
    return found


def test_troubleshooting_has_every_kind_of_error():
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    names = own_exceptions()
    assert len(names) >= 10
    missing = sorted(name for name in names if f"`{name}`" not in page)
    assert not missing
