"""Imports point one way: trainer and host may use converter, converter uses neither, and converter and host never
torch. Only the three command lines compose packages, and only inside the command that needs it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {"converter": {"converter"}, "host": {"host", "converter"}, "trainer": {"trainer", "converter"}}
PACKAGES = ("trainer", "converter", "host")
MOST_FILES = 18  # operators/ apart, which has one for each
# Circles that stand yet; the list only shrinks.
CIRCLES: tuple[frozenset[str], ...] = ()
# From the ground up: a room may import its own files and rooms of floors above it in this list, nothing else.
FLOORS: tuple[tuple[str, ...], ...] = (
    # converter
    ("converter.arrays", "converter.target", "converter.compiler", "converter.errors"),
    ("converter.checked",),
    ("converter.files",),
    ("converter.spec", "converter.tensor"),
    ("converter.run_folder", "converter.formats.tflite"),
    ("converter.graph", "converter.quant", "converter.commands"),
    ("converter.formats", "converter.formats.onnx"),
    ("converter.operators",),
    ("converter.check", "converter.reference", "converter.audio"),
    ("converter.tflite", "converter.onnx_qdq", "converter.keyword_models"),
    ("converter.aot.memory_plan",),
    ("converter.aot.kernels",),
    ("converter.aot",),
    ("converter.convert", "converter.size"),
    ("converter.library",),
    ("converter.verify",),
    ("converter.__main__",),
    # host
    ("host.errors",),
    ("host.result_files",),
    ("host.emulator.errors", "host.emulator.unmodelled"),
    ("host.emulator.schedule",),
    ("host.emulator.image", "host.emulator.cycles"),
    ("host.emulator.cpu",),
    ("host.emulator.peripherals",),
    ("host.emulator.chip",),
    ("host.emulator.report",),
    ("host.emulator.core",),
    ("host.emulator.board",),
    ("host.emulator.snapshot",),
    ("host.emulator.session",),
    ("host.emulator", "host.tflm_sources"),
    ("host.firmware_build",),
    ("host.link",),
    ("host.measure",),
    ("host.costs",),
    ("host.live",),
    ("host.report",),
    ("host.__main__",),
    # trainer
    ("trainer.errors", "trainer.board", "trainer.workers"),
    ("trainer.gpu",),
    ("trainer.data",),
    ("trainer.network",),
    ("trainer.run",),
    ("trainer.sweep",),
    ("trainer.search",),
    ("trainer.studies",),
    ("trainer.roofline", "trainer.tvm", "trainer.approx", "trainer.distributed"),
    ("trainer.__main__",),
)
HEAVY = ("torch", "torchaudio", "tensorflow", "matplotlib")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def dotted(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


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


def room_of(module: str) -> str:
    """The longest entry of FLOORS that the module is or lies in."""
    rooms = [room for floor in FLOORS for room in floor if module == room or module.startswith(room + ".")]
    assert rooms, f"{module} stands on no floor: give it one in FLOORS"
    return max(rooms, key=len)


def file_imports() -> dict[str, set[str]]:
    """What every file of the three packages imports of them, those for type checkers and inside functions included;
    what a command line composes of another package is left out."""
    files = {dotted(file): file for package in PACKAGES for file in modules(package)}
    names = {name: file for name, file in files.items() if name not in PACKAGES}
    return {
        name: {module for line, module in imported(file) if module in names and not _composes(file, line, module)}
        - {name}
        for name, file in names.items()
    }


def test_no_room_imports_upward() -> None:
    level = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    wrong = []
    for name, wanted in file_imports().items():
        room = room_of(name)
        for module in wanted:
            other = room_of(module)
            standing = any({name, module} <= circle for circle in CIRCLES)
            if other != room and level[other] >= level[room] and not standing:
                wrong.append(f"{name} ({room}) imports {module} ({other})")
    assert not wrong, "\n".join(wrong)


def circles(imports: dict[str, set[str]]) -> set[frozenset[str]]:
    """Sets of two or more files that reach each other."""
    reach = {name: set(wanted) for name, wanted in imports.items()}
    for middle in reach:
        for wanted in reach.values():
            if middle in wanted:
                wanted |= reach[middle]
    together = {name: frozenset(other for other in wanted if name in reach[other]) for name, wanted in reach.items()}
    return {found for found in together.values() if len(found) > 1}


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {frozenset("abc")}


def test_no_circle_of_files() -> None:
    assert circles(file_imports()) == set(CIRCLES)


def test_no_crowded_folder() -> None:
    """About fifteen files at a folder's top: a reader's eye must find the one."""
    for package in PACKAGES:
        for folder in {file.parent for file in modules(package)} - {ROOT / "converter" / "operators"}:
            files = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
            assert len(files) <= MOST_FILES, f"{folder.relative_to(ROOT)} holds {len(files)} files"


def _composes(file: Path, line: int, module: str) -> bool:
    """Whether this import of another package is a command's own, in one of the three command lines."""
    package = dotted(file).split(".")[0]
    if file != ROOT / package / "__main__.py" or module.split(".")[0] == package:
        return False
    functions = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    return any(node.lineno < line <= (node.end_lineno or 0) for node in functions)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    wrong = []
    for file in modules(package):
        for line, module in imported(file):
            top = module.split(".")[0]
            if top in PACKAGES and top not in ALLOWED[package] and not _composes(file, line, module):
                wrong.append(f"{file.relative_to(ROOT)}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", ["converter", "host"])
def test_no_torch_beyond_the_trainer(package: str) -> None:
    """compare is handed the function that measures torch's speed; naming it here is wrong."""
    wrong = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in modules(package)
        for line, module in imported(file)
        if module.split(".")[0] in ("torch", "torchaudio")
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("name", ["errors", "checked", "spec", "files", "run_folder", "target"])
def test_the_contract_needs_the_standard_library_only(name: str) -> None:
    """What every package reads of a run: it must import in any environment."""
    own = {f"converter.{own}" for own in ("checked", "errors", "spec", "files", "run_folder", "target")}
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
