"""Imports point one way: trainer and host may use converter, converter uses neither, and converter and host never
torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {"converter": {"converter"}, "host": {"host", "converter"}, "trainer": {"trainer", "converter"}}
PACKAGES = ("trainer", "converter", "host")
HEAVY = ("torch", "torchaudio", "tensorflow", "matplotlib")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(file: Path) -> list[tuple[int, str]]:
    """(line, dotted module) of every absolute import, `from a import b` also as a.b when b is a module."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: write the package's name"
            module = node.module or ""
            submodules = [
                f"{module}.{name.name}"
                for name in node.names
                if _is_module(ROOT / module.replace(".", "/") / name.name)
            ]
            found += [(node.lineno, name) for name in submodules or [module]]
    return found


def _is_module(path: Path) -> bool:
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    wrong = []
    for file in modules(package):
        for line, module in imported(file):
            top = module.split(".")[0]
            if top in PACKAGES and top not in ALLOWED[package]:
                wrong.append(f"{file.relative_to(ROOT)}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", ["converter", "host"])
def test_no_torch_beyond_the_trainer(package: str) -> None:
    """compare measures torch's speed in a process of its own; naming it anywhere else is wrong."""
    wrong = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in modules(package)
        for line, module in imported(file)
        if module.split(".")[0] in ("torch", "torchaudio")
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("name", ["spec", "files", "run_folder"])
def test_the_contract_needs_the_standard_library_only(name: str) -> None:
    """What every package reads of a run: it must import in any environment."""
    own = {"converter.spec", "converter.files", "converter.run_folder"}
    for line, module in imported(ROOT / "converter" / f"{name}.py"):
        assert module.split(".")[0] in sys.stdlib_module_names or module in own, (
            f"converter/{name}.py:{line} imports {module}"
        )


def _run_with_blocked(packages: tuple[str, ...], modules: list[str]) -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys\nfor name in {packages!r}: sys.modules[name] = None\n"
        f"import importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("package", ["converter", "host"])
def test_every_module_imports_with_torch_blocked(package: str) -> None:
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in modules(package)]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")] + [
        f"{package}.__main__"
    ]
    done = _run_with_blocked(("torch", "torchaudio", "tensorflow"), names)
    assert done.returncode == 0, done.stderr[-2000:]


def test_commands_start_without_heavy_packages() -> None:
    """`--help` of the converter and the host must not wait for torch, TensorFlow or matplotlib."""
    done = _run_with_blocked(HEAVY, ["converter.__main__", "host.__main__"])
    assert done.returncode == 0, done.stderr[-2000:]
