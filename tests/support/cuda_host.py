"""Generated CUDA run on this machine's CPU: a block's threads are threads, __syncthreads is a barrier, blocks come one
after another."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from converter.arrays import Float32

SHIM = """
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <type_traits>
#include <vector>
using std::max;
using std::min;
#define alignas(bytes)
#define __global__
#define __launch_bounds__(threads)
#define __shared__ static
struct Index { int x = 0, y = 0, z = 0; };
static thread_local Index threadIdx, blockIdx;
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
static std::barrier<> *block_barrier;
static void __syncthreads() { block_barrier->arrive_and_wait(); }
"""
LAUNCH = """
template <class Kernel> static void launch(Index grid, Index block, Kernel kernel)
{
    std::barrier<> barrier(block.x * block.y * block.z);
    block_barrier = &barrier;
    std::vector<std::thread> threads;
    for (int z = 0; z < block.z; z++) for (int y = 0; y < block.y; y++) for (int x = 0; x < block.x; x++)
        threads.emplace_back([=] {
            threadIdx = {x, y, z};
            for (int k = 0; k < grid.z; k++) for (int j = 0; j < grid.y; j++) for (int i = 0; i < grid.x; i++) {
                blockIdx = {i, j, k};
                kernel();
                __syncthreads();
            }
        });
    for (auto &thread : threads) thread.join();
}
"""


def run(
    source: str,
    host: str,
    operands: tuple[Float32, Float32],
    shape: tuple[int, ...],
    folder: Path,
) -> Float32:
    """The output of the kernels, launched as the host script says."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the CUDA source for this machine")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cuda.h").write_text("")
    (folder / "kernels.cpp").write_text(SHIM + source + LAUNCH + _driver(host))
    library = folder / "kernels.so"
    done = subprocess.run(
        [
            "g++",
            "-std=c++20",
            "-O1",
            "-w",
            "-shared",
            "-fPIC",
            "-pthread",
            f"-I{folder}",
            str(folder / "kernels.cpp"),
            "-o",
            str(library),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    out = np.full(shape, np.nan, np.float32)
    arrays = [np.ascontiguousarray(values) for values in (*operands, out)]
    ctypes.CDLL(str(library)).run(*(ctypes.c_void_p(values.ctypes.data) for values in arrays))
    return arrays[2]


def _driver(host: str) -> str:
    parameters = re.findall(r"(\w+) = T\.decl_buffer\(.*T\.tvm_struct_get\(\w+_handle", host)
    views = dict(
        re.findall(r"(\w+) = (\w+)\.view\(", host) + re.findall(r"(\w+) = T\.decl_buffer\(.*data=(\w+)\.data\)", host)
    )
    lines = [f"static float {name}[{size}];" for name, size in re.findall(r"(\w+) = T\.alloc_buffer\(\((\d+),\)", host)]
    lines.append(f'extern "C" void run({", ".join(f"float *{name}" for name in parameters)})\n{{')
    for name, words, params in re.findall(r'T\.call_ffi_kernel\("(\w+)", (.*), launch_params=\[(.*?)\]', host):
        arguments = words.split(", ")
        pointers = [
            views.get(word.removesuffix(".data"), word.removesuffix(".data"))
            for word in arguments
            if word.endswith(".data")
        ]
        extents = dict(zip(re.findall(r'"(\S+)"', params), arguments[len(pointers) :], strict=True))
        grid, block = (
            ", ".join(extents.get(f"{kind}.{axis}", "1") for axis in "xyz") for kind in ("blockIdx", "threadIdx")
        )
        lines.append(f"    launch({{{grid}}}, {{{block}}}, [=] {{ {name}({', '.join(pointers)}); }});")
    assert len(lines) > 1 and len(parameters) == 3, host
    return "\n".join([*lines, "}"])
