"""The files around the code agree with each other: packages, versions, commands; and none knows one machine."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tools.shared.notebooks import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE))
PINS = {canonicalize_name(name): version for name, version in PINS.items()}


def workflow():
    return yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))


def test_every_direct_dependency_is_pinned_to_a_version_that_it_allows():
    direct = PROJECT["dependencies"] + [line for extra in EXTRAS if extra != "gpu" for line in EXTRAS[extra]]
    for requirement in map(Requirement, direct):
        version = PINS.get(canonicalize_name(requirement.name))
        assert version, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(version), f"{requirement} does not allow the pinned {version}"


def imported(path):
    """The names of the modules that a source imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_whatever_is_imported_is_a_declared_dependency():
    declared = PROJECT["dependencies"] + [line for extra in EXTRAS.values() for line in extra]
    declared = {canonicalize_name(Requirement(line).name) for line in declared}
    declared |= {"ipython", "jupyter-server", "cupy"}  # they come with ipykernel, jupyterlab, and cupy-cuda12x
    providers, ours = metadata.packages_distributions(), {"nnlib", "tools", "tests", "data", "benchmarks"}
    undeclared = set()
    for folder in ("nnlib", "tools", "tests", "benchmarks", "data", "notebooks"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in set(imported(path)) - ours - set(sys.stdlib_module_names):
                by = {canonicalize_name(provider) for provider in providers.get(name, [name])}
                if not by & declared:
                    undeclared.add(f"{path.relative_to(ROOT)} imports {name}, of {', '.join(by)}")
    assert not undeclared, sorted(undeclared)


def test_every_installed_dependency_of_a_dependency_is_pinned_too():
    extras = [line for extra in EXTRAS if extra != "gpu" for line in EXTRAS[extra]]
    todo = [Requirement(line) for line in PROJECT["dependencies"] + extras]
    seen, wrong = set(), []
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, *requirement.extras) in seen:
            continue
        seen.add((name, *requirement.extras))
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # the unit tests run without the notebooks' packages too
            continue
        if PINS.get(name) != found.version.split("+")[0]:  # the CPU build of PyTorch is 2.13.0+cpu
            wrong.append(f"{name} {found.version}, constraints.txt: {PINS.get(name)}")
        if not SpecifierSet(found.metadata.get("Requires-Python", "")).contains("3.11.0"):  # Debian 12 has 3.11.2
            wrong.append(f"{name} {found.version} needs Python {found.metadata['Requires-Python']}")
        for line in found.requires or []:
            needed = Requirement(line)
            if not needed.marker or any(needed.marker.evaluate({"extra": e}) for e in ["", *requirement.extras]):
                todo.append(needed)
    assert len(seen) > 20 and not wrong, f"not the pinned versions (make setup installs them): {wrong}"


def test_the_conda_environment_agrees_with_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    *conda, pip = environment["dependencies"]
    # conda brings Python alone, every package comes from pyproject.toml: a second list could only disagree
    assert [Requirement(line).name for line in conda] == ["python", "pip"]
    assert Requirement(conda[0]).specifier == SpecifierSet(PROJECT["requires-python"])
    constraints, install = pip["pip"]
    assert constraints == "-c constraints.txt" and (ROOT / "constraints.txt").exists()
    extras = re.fullmatch(r"-e \.\[(.+)\]", install).group(1).split(",")
    assert extras == ["course", "test", "reports"] and set(extras) <= set(EXTRAS)


def test_the_workflow_tests_the_pythons_that_are_promised():
    promised = SpecifierSet(PROJECT["requires-python"])
    tested = set(workflow()["jobs"]["unit"]["strategy"]["matrix"]["python"])
    assert tested == {f"3.{minor}" for minor in range(30) if promised.contains(f"3.{minor}")}


def test_the_jobs_of_the_workflow_may_little_and_end():
    assert workflow()["permissions"] == {"contents": "read"}
    for name, job in workflow()["jobs"].items():
        assert job["timeout-minutes"] <= 90, name


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here (Windows)")
def test_every_recipe_of_the_makefile_can_be_read_by_the_shell(tmp_path):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    commands = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE).group(1).split()
    assert commands == re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)
    for command in commands:
        script = subprocess.run(["make", "-n", "-C", str(ROOT), command], capture_output=True, text=True, check=True)
        assert subprocess.run(["sh", "-n"], input=script.stdout, text=True).returncode == 0, command
        for module in re.findall(r"-m ((?:tools|nnlib|benchmarks)\.[\w.]+)", script.stdout):
            assert importlib.util.find_spec(module), f"make {command}: there is no {module}"


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here (Windows)")
def test_make_alone_says_what_there_is():
    said = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    for command in ("setup", "lab", "run", "reports", "test", "claims", "build", "data", "clean"):
        assert re.search(rf"^  {command} +\w", said, re.MULTILINE)


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here (Windows)")
def test_an_unfit_python_is_refused_in_words(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo Python 3.9.1; else exit 1; fi\n')
    old.chmod(0o755)
    for python, words in ((old, "Python 3.9.1"), ("no-such-python", "There is no no-such-python")):
        made = subprocess.run(["make", "-C", tmp_path, "setup", f"PYTHON={python}"], capture_output=True, text=True)
        assert made.returncode != 0 and words in made.stdout and "3.11" in made.stdout
        assert not (tmp_path / ".venv").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no execute bit")
def test_ci_can_be_run():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script]).returncode == 0


def test_no_file_knows_one_machine_or_registry():
    listing = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    files = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split("\n")
    machine = re.compile(r"(?<![\w.~-])/(?:work|farm|home|root|Users|tmp|opt)/\w")
    registry = re.compile(r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.org", re.IGNORECASE)
    found = []
    for name in filter(None, files):
        path = ROOT / name
        if path.is_file() and path.suffix in {"", ".py", ".md", ".toml", ".yml", ".txt", ".sh", ".ipynb", ".cfg"}:
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                if machine.search(line) or registry.search(line):
                    found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)
