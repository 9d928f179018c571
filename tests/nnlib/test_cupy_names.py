"""Does CuPy have what nnlib calls? Every `xp.name`, and every keyword it is called with, held against the real one.

CuPy can be imported without a GPU (a download of 137 MB), though it can compute nothing there. So cupy_names.json holds
its names and their parameters; where CuPy is installed, the file must agree with it. To renew the file, in a fresh
environment: pip install cupy-cuda12x pytest, then python -m tests.nnlib.test_cupy_names
"""

import ast
import inspect
import json
import re
import warnings
from pathlib import Path

import pytest

NNLIB = Path(__file__).parents[2] / "nnlib"
SNAPSHOT = Path(__file__).with_name("cupy_names.json")
MODULES = ("", "lib.stride_tricks", "linalg", "random")  # of cupy, those that a program for NumPy may call
CLASSES = ("ndarray", "random.Generator")
PROCESSOR_ONLY = {"checks", "reference"}  # they test a student's NumPy, and have no xp

# ------------------------------------------------------------------------------------------------------ the real CuPy


def attribute(owner, path):
    for name in filter(None, path.split(".")):
        owner = getattr(owner, name)
    return owner


def parameters(function):
    """The names of a function's parameters, in order, with ** and * for "any"; None where CuPy does not tell them."""
    try:
        found = inspect.signature(function).parameters.values()
        stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
        return [stars.get(parameter.kind, parameter.name) for parameter in found if parameter.name != "self"]
    except (TypeError, ValueError):  # written in Cython: the first line of its text says it
        signature = re.match(r"[\w.]+\((.*)\)", (function.__doc__ or "").lstrip().partition("\n")[0])
    if not signature:
        return None
    names = []
    for part in re.split(r",\s*(?![^()\[\]]*[)\]])", signature[1]):
        name = part.partition("=")[0].strip().replace("\\", "")
        if stars_and_name := re.match(r"(\*{1,2})\w+$", name):
            names.append(stars_and_name[1])
        elif name not in ("", "/", "*", "self"):
            names.append(name.rpartition(" ")[2])
    return names


def names_of(cupy):
    """What the file holds: {"mean": its parameters, "random.Generator.random": ..., "ndarray.T": None}."""
    names = {path: parameters(attribute(cupy, path)) for path in CLASSES}  # one of them is in no dir()
    for path in (*MODULES, *CLASSES):
        owner = attribute(cupy, path)
        for name in dir(owner):
            if name.startswith("_") or name in ("annotations", "np"):  # what a module of CuPy itself has imported
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = getattr(owner, name)
            called = callable(found) and not (isinstance(found, type) and found.__module__.startswith(("numpy", "bui")))
            names[f"{path}.{name}".lstrip(".")] = parameters(found) if called else None
    return dict(sorted(names.items()))


def snapshot():
    return json.loads(SNAPSHOT.read_text("utf-8"))


def renew():
    import cupy

    lines = (f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in names_of(cupy).items())
    text = ",\n".join(lines)
    SNAPSHOT.write_text(f'{{"version": "{cupy.__version__}", "names": {{\n{text}\n}}}}\n', "utf-8", newline="\n")


def test_the_snapshot_is_what_cupy_says():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed; its names are in cupy_names.json")
    if cupy.__version__ != snapshot()["version"]:
        pytest.skip(f"this is CuPy {cupy.__version__}, the names are those of {snapshot()['version']}")
    assert names_of(cupy) == snapshot()["names"]


# ----------------------------------------------------------------------------------------------------- nnlib's sources


def path_of(node):
    """Return "xp.random.Generator" for such an expression; what is no chain of names from xp gives None."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id == "xp":
        root = "xp"
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        root = {"get_array_module": "xp", "generator_beside": "xp.random.Generator"}.get(node.func.id)
    else:
        return None
    return ".".join([root, *reversed(names)]) if root and names else None


def uses(source):
    """Yield (line, name, keywords, positional arguments) for everything that a source takes from CuPy."""
    tree = ast.parse(source)
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner and (path := path_of(node)):
            if node.attr.startswith("__"):
                continue  # the module's own __name__
            call = called.get(id(node))
            keywords = [keyword.arg for keyword in call.keywords] if call else []
            yield node.lineno, path.removeprefix("xp."), keywords, len(call.args) if call else 0


def modules_under_other_names(source):
    """Yield the lines in which `get_array_module(...)` is kept under another name than xp: they would not be seen."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign):
            continue
        several = isinstance(node.value, ast.Tuple) and isinstance(node.targets[0], ast.Tuple)
        sides = (node.targets[0], node.value)
        for target, value in zip(*(side.elts for side in sides), strict=False) if several else [sides]:
            module = isinstance(value, ast.Call) and getattr(value.func, "id", "") == "get_array_module"
            if module and getattr(target, "id", "") != "xp":
                yield node.lineno


def problems(source, names):
    for line, name, keywords, count in uses(source):
        if name not in names:
            yield f"line {line}: CuPy has no cupy.{name}"
            continue
        allowed = names[name]
        if allowed is None and (keywords or count):
            yield f"line {line}: cupy.{name} is no function, or CuPy does not tell its parameters"
        elif allowed is not None:
            wrong = [] if "**" in allowed else [keyword for keyword in keywords if keyword not in allowed]
            yield from (f"line {line}: cupy.{name} takes no {keyword}=" for keyword in wrong)
            if "*" not in allowed and count > len(allowed):
                yield f"line {line}: cupy.{name} takes {len(allowed)} arguments, not {count}"
    yield from (f"line {line}: call the module xp" for line in modules_under_other_names(source))


def sources():
    files = {path.relative_to(NNLIB): path for path in sorted(NNLIB.rglob("*.py"))}
    return {str(name): path for name, path in files.items() if name.parts[0].removesuffix(".py") not in PROCESSOR_ONLY}


@pytest.mark.parametrize("file", sources())
def test_cupy_has_what_nnlib_calls(file):
    assert list(problems(sources()[file].read_text("utf-8"), snapshot()["names"])) == []


def test_all_kinds_of_use_are_seen():
    seen = {name for path in sources().values() for _, name, _, _ in uses(path.read_text("utf-8"))}
    assert {"maximum", "lib.stride_tricks.as_strided", "random.Philox4x3210", "random.Generator.integers"} <= seen
    assert "zeros_like" in seen and len(seen) >= 25, "a direct get_array_module(x).zeros_like was not seen"
    left_out = set(NNLIB.rglob("*.py")) - set(sources().values())
    assert not [path.name for path in left_out if "get_array_module" in path.read_text("utf-8")]


PLANTED = {
    "x = 1\nxp = get_array_module(x)\nxp.permute_dims_not_there(x)": "line 3: CuPy has no cupy.permute_dims_not_there",
    "xp.mean(x, where=x > 0)": "cupy.mean takes no where=",
    "get_array_module(x).maximum(x, 0, where=x > 0)": "cupy.maximum takes no where=",
    "xp.random.default_rng(0).bit_generator": None,
    "xp.random.Generator(xp.random.PCG64(1))": "no cupy.random.PCG64",
    "generator_beside(x, rng).permuted(x)": "no cupy.random.Generator.permuted",
    "generator_beside(x, rng).random(3, endpoint=True)": "Generator.random takes no endpoint=",
    "xp.exp(x, y, z, a, b, c)": "cupy.exp takes 4 arguments, not 6",
    "module = get_array_module(x)": "call the module xp",
    "rows, module = 1, get_array_module(x)": "call the module xp",
    "xp.matmul(a, b, out=c)": None,
    "xp.pad(x, 1, constant_values=0)": None,
    "numpy.permute_dims_not_there(x)": None,
}


@pytest.mark.parametrize("source, said", PLANTED.items())
def test_planted_uses_are_found(source, said):
    found = list(problems(source, snapshot()["names"]))
    assert len(found) == (said is not None) and all(said in line for line in found), found


if __name__ == "__main__":
    renew()
