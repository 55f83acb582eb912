"""The counter's C half: its structs are those of its Python half, $CC may have words, and the slow counter says so."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
from unicorn import UC_ARCH_ARM, UC_MODE_MCLASS, UC_MODE_THUMB
from unicorn.unicorn_py3 import Uc

from converter.compiler import find_compiler
from host.emulator.cycles import counter
from host.emulator.errors import BoardError


@pytest.fixture
def uc() -> Uc:
    return Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing compiled yet, nothing said yet."""
    monkeypatch.setattr(counter, "_CACHE", tmp_path / "cache")
    counter._say_slow.cache_clear()


@pytest.mark.parametrize("grown", ["uint32_t address, size;", "uint32_t kind, offset", "uint32_t table_bits;"])
def test_a_struct_of_another_size_is_refused(tmp_path: Path, grown: str) -> None:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    text = Path(counter.__file__).with_name("counter.c").read_text()
    assert grown in text
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    for name, changed in (("same", text), ("grown", text.replace(grown, "uint64_t more; " + grown, 1))):
        source.write_text(changed)
        library = tmp_path / f"{name}.so"
        subprocess.run([*compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        if name == "same":
            counter.check_structs(ctypes.CDLL(str(library)))
    with pytest.raises(BoardError, match=r"counter\.c: its structs .* got \[") as caught:
        counter.check_structs(ctypes.CDLL(str(library)))
    assert "\n" not in str(caught.value)


def test_a_compiler_of_two_words_counts_natively(
    uc: Uc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CC", raising=False)
    plain = find_compiler()
    if plain is None:
        pytest.skip("no C compiler on this machine")
    wrapper = tmp_path / "ccache"
    wrapper.write_text(
        f'#!{sys.executable}\nimport os, sys\nopen(r"{tmp_path}/used", "w")\nos.execv(sys.argv[1], sys.argv[1:])\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("CC", f"{wrapper} {plain[0]}")
    assert find_compiler() == [str(wrapper), plain[0]]
    assert counter.make_counter(uc).name == "native"
    assert (tmp_path / "used").exists() and capsys.readouterr().err == ""


@pytest.mark.parametrize("broken", ["false", "an 'open quote"])
def test_the_python_counter_says_once_that_it_is_slow(
    uc: Uc, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    monkeypatch.setenv("CC", broken)
    if broken != "false":
        monkeypatch.setenv("PATH", "")
    assert [counter.make_counter(uc).name for _ in range(2)] == ["python", "python"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "slower" in said
    counter._say_slow.cache_clear()
    assert counter.make_counter(uc, native=False).name == "python"
    assert capsys.readouterr().err == ""
