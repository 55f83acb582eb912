"""The generated engine (model_aot.c) compiled for this machine, so that its layers can be compared with the
reference."""

from __future__ import annotations

import ctypes
import shlex
import shutil
import subprocess
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from converter.aot.emit import render_aot
from converter.arrays import Int8
from converter.compiler import find_compiler
from converter.errors import ConvertError
from converter.graph import Graph
from converter.tflite.interpreters import Unavailable

KERNELS = Path(__file__).resolve().parents[2] / "firmware" / "lib" / "nn"
LOOPS = """\
#include <string.h>

#include "model_aot.h"

void native_windows(const int8_t *in, int8_t *out, int count)
{
    for (; count > 0; count--, in += MODEL_AOT_INPUT_BYTES, out += MODEL_AOT_OUTPUT_BYTES) {
        memcpy(model_aot_input(), in, MODEL_AOT_INPUT_BYTES);
        model_aot_run(0);
        memcpy(out, model_aot_output(), MODEL_AOT_OUTPUT_BYTES);
    }
}

#if MODEL_AOT_STREAMS
void native_hops(const int8_t *in, int8_t *out, int count)
{
    for (; count > 0; count--, in += MODEL_AOT_STREAM_HOP_BYTES, out += MODEL_AOT_OUTPUT_BYTES) {
        model_aot_stream_run(in, 0);
        memcpy(out, model_aot_output(), MODEL_AOT_OUTPUT_BYTES);
    }
}
#endif
"""  # without Python between two inferences
FLAGS = ("-std=gnu11", "-O1", "-fPIC", "-shared")


class NativeModel:
    """One model in a shared library built under `folder`; simd=True takes the SMLAD kernels, whose instructions are
    emulated here."""

    def __init__(self, graph: Graph, folder: Path, simd: bool, hop_frames: int | None = None) -> None:
        self.graph = graph
        compiler = find_compiler()
        if compiler is None:
            raise Unavailable("no C compiler (cc, gcc, clang) is installed")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in {**render_aot(graph, simd, hop_frames), "loops.c": LOOPS}.items():
            (folder / name).write_text(text)
        target = folder / "model.so"
        sources = [folder / "model_aot.c", folder / "loops.c", *sorted(KERNELS.glob("*.c"))]
        command = [*compiler, *FLAGS, f"-I{KERNELS}", f"-I{folder}", *map(str, sources), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            first = (done.stderr.splitlines() or ["no message"])[0]
            raise ConvertError(f"model_aot.c: {shlex.join(compiler)} must compile it, got: {first}")
        self._load(target)

    def twin(self, name: str) -> NativeModel:
        """The same model with memory of its own, for another thread; its library lies beside the first."""
        found = copy(self)
        found._load(Path(shutil.copyfile(self._target, self._target.with_name(name))))
        return found

    def _load(self, target: Path) -> None:
        self._target = target
        self._library = ctypes.CDLL(str(target))
        self._library.model_aot_input.restype = ctypes.c_void_p
        self._library.model_aot_output.restype = ctypes.c_void_p

    def layers(self, x_int8: Int8) -> list[Int8]:
        """The output of every layer for one input, in the layers' order; variables go on from the input before."""
        self._fill(x_int8)
        return [rows for _, rows in self._observed(lambda observer: self._library.model_aot_run(observer))]

    def reset(self) -> None:
        """The next input is the first again, for a model with variables."""
        if self.graph.variables:
            self._library.model_aot_reset()

    def stream_start(self, window: Int8) -> None:
        """The window that the first hop moves on from; only with hop_frames, and only where the model streams."""
        self._fill(window)
        self._library.model_aot_stream_start()

    def stream_layers(self, rows: Int8) -> list[tuple[int, Int8]]:
        """One hop of new input rows: (layer, the last rows of its output) in the layers' order."""
        data = np.ascontiguousarray(rows, np.int8).tobytes()
        return self._observed(lambda observer: self._library.model_aot_stream_run(data, observer))

    def outputs(self, windows: Int8) -> Int8:
        """int8 [n, outputs] of n inputs stacked along axis 0, each a whole window."""
        return self._many(self._library.native_windows, windows)

    def stream_outputs(self, hops: Int8) -> Int8:
        """int8 [n, outputs] after each of n hops of new input rows, going on from stream_start or the hop before."""
        return self._many(self._library.native_hops, hops)

    def _many(self, run: Callable[..., Any], inputs: Int8) -> Int8:
        found = np.empty((len(inputs), self.graph.tensors[self.graph.output].size), np.int8)
        data = np.ascontiguousarray(inputs, np.int8)
        run(ctypes.c_void_p(data.ctypes.data), ctypes.c_void_p(found.ctypes.data), ctypes.c_int(len(inputs)))
        return found

    def _fill(self, x_int8: Int8) -> None:
        data = np.ascontiguousarray(x_int8, np.int8).tobytes()
        ctypes.memmove(self._library.model_aot_input(), data, self.graph.tensors[self.graph.input].size)

    def _observed(self, run: Callable[[Any], None]) -> list[tuple[int, Int8]]:
        seen: list[tuple[int, Int8]] = []

        def observe(layer: int, _name: bytes, output: int, count: int) -> None:
            seen.append((layer, np.frombuffer(ctypes.string_at(output, count), np.int8)))

        run(ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint32)(observe))
        return seen
