"""Our own C front end as a front end for Python: firmware/lib/frontend compiled with this machine's C compiler, loaded
by ctypes.

It stands in for the oracle where the package pymicro-features has no wheel, and the tests compare it with the oracle
elsewhere.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

from converter.arrays import Int16, Uint16
from converter.audio.tables import render
from converter.compiler import find_compiler
from converter.errors import ConvertError
from converter.files import scratch_folder, write_atomic
from converter.spec import FeatureSpec

SOURCES = Path(__file__).resolve().parents[2] / "firmware" / "lib" / "frontend"
FLAGS = ("-std=gnu11", "-O2")


def build(spec: FeatureSpec, out: Path, flags: tuple[str, ...] = (), extra_sources: tuple[Path, ...] = ()) -> Path:
    """Compile the C front end with the tables of spec to the file `out`; raises ConvertError with the compiler's first
    error line."""
    compiler = find_compiler()
    if compiler is None:
        raise ConvertError(
            "C front end: needs a C compiler, found none of cc, gcc, clang; install one (Debian: apt install gcc "
            "libc6-dev)"
        )
    sources = [str(source) for source in (*sorted(SOURCES.glob("*.c")), *extra_sources)]
    with scratch_folder() as folder:
        (folder / "frontend_tables.h").write_text(render(spec))
        made = folder / "made"
        command = [*compiler, *FLAGS, *flags, f"-I{folder}", f"-I{SOURCES}", *sources, "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            errors = (
                [line for line in done.stderr.splitlines() if "error" in line]
                or done.stderr.splitlines()
                or ["no message"]
            )
            raise ConvertError(
                f"C front end: {shlex.join(compiler)} must compile it, got `{errors[0].strip()}`; set CC to another"
            )
        write_atomic(out, made.read_bytes())
    out.chmod(0o755)
    return out


def build_cached(spec: FeatureSpec) -> Path:
    """The shared library for spec, compiled once per user, sources and settings."""
    digest = hashlib.sha256(render(spec).encode())
    for source in (*sorted(SOURCES.glob("*.[ch]")), SOURCES.parent / "nn" / "nn_simd.h"):
        digest.update(source.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache") / "nano33-kws"
    out = cache / f"frontend-{sys.platform}-{digest.hexdigest()[:16]}.so"
    try:
        return out if out.is_file() else build(spec, out, ("-shared", "-fPIC"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConvertError(
            f"{cache}: must be writable for the compiled front end, got `{reason}`; set XDG_CACHE_HOME"
        ) from None


class NativeEngine:
    """Our C as converter.audio.frontend.Engine; one object must stay in one thread at a time."""

    def __init__(self, spec: FeatureSpec, library: Path | None = None) -> None:
        self.spec = spec
        self._library = ctypes.CDLL(str(library or build_cached(spec)))
        self._library.frontend_reset.argtypes = [ctypes.c_void_p]
        self._library.frontend_reset.restype = None
        self._feed = self._library.frontend_feed_raw
        self._feed.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p]
        self._feed.restype = ctypes.c_int
        self._state = ctypes.create_string_buffer(_state_bytes(spec))
        self.reset()

    def reset(self) -> None:
        """See frontend.Engine."""
        self._library.frontend_reset(self._state)

    def process(self, pcm: Int16) -> Uint16:
        """See frontend.Engine."""
        step, width = self.spec.step_samples, 2 * self.spec.channels
        raw = np.empty((len(pcm) // step + 2, self.spec.channels), np.uint16)
        source, target, count = pcm.ctypes.data, raw.ctypes.data, 0
        for start in range(0, len(pcm), step):
            count += self._feed(self._state, source + 2 * start, min(step, len(pcm) - start), target + count * width)
        return raw[:count].copy()


def _state_bytes(spec: FeatureSpec) -> int:
    """Room for frontend_state with any padding."""
    points = 1 << max(0, spec.window_samples - 1).bit_length()
    return 2 * spec.window_samples + 4 * spec.channels + 2 * points + 64
