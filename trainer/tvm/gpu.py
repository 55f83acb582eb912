"""Schedules by hand for GPUs, as CUDA source: blocks of threads, shared memory filled by wide loads, sums in registers.

Written and compiled on any machine; run where there is a GPU. Ragged sizes are tested for where values are read and
written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.target import Target

from trainer.tvm.primitives import Primitive, Sizes

Step = Callable[[s_tir.Schedule, Sizes], None]
NO_GPU_ARCH = "sm_80"  # what sources are compiled for where there is no GPU to ask


def cuda_target(arch: str = NO_GPU_ARCH) -> Target:
    """A GPU of this architecture and the limits that all GPUs have since sm_20."""
    limits = {"max_threads_per_block": 1024, "max_shared_memory_per_block": 49152, "thread_warp_size": 32}
    return Target({"kind": "cuda", "arch": arch, **limits}, host=Target("llvm"))


def _bind(s: s_tir.Schedule, loops: dict[str, Any]) -> None:
    for name, loop in loops.items():
        s.bind(loop, name)


def _bind_flat(s: s_tir.Schedule, block: Any, threads: int = 256) -> None:
    """One thread per value of a copying block."""
    loops = s.get_loops(block)
    flat = s.fuse(*loops) if len(loops) > 1 else loops[0]
    outer, inner = s.split(flat, [None, threads])
    s.bind(outer, "blockIdx.x"), s.bind(inner, "threadIdx.x")


def _flat(s: s_tir.Schedule, copy: Any, depth: int) -> Any:
    """The copy's own loops, those behind the `depth` outer ones, as one."""
    loops = s.get_loops(copy)[depth:] or [s.add_unit_loop(copy)]
    return s.fuse(*loops) if len(loops) > 1 else loops[0]


def _fetch(s: s_tir.Schedule, copy: Any, depth: int, shape: tuple[int, int], width: int) -> None:
    """All threads of a block (rows x columns of them) fill a shared buffer together, `width` neighbouring floats each
    time; the copy lies `depth` loops deep."""
    _, y, x, lanes = s.split(_flat(s, copy, depth), [None, *shape, width])
    _bind(s, {"threadIdx.y": y, "threadIdx.x": x})
    if width > 1:
        s.vectorize(lanes)


# gemm

TILE, THREADS, DEPTH = 64, 16, 16


def gemm_threads(s: s_tir.Schedule, sizes: Sizes) -> None:
    """A block of 16 x 16 threads makes 64 x 64 outputs, each thread 4 x 4 of them: neighbouring threads read
    neighbouring columns of b, so that a warp's loads fall together. Ragged sizes are padded to whole blocks."""
    block = s.get_sblock("out")
    s.pad_einsum(block, [TILE, TILE, DEPTH])
    y, x, j = s.get_loops(block)
    block_y, thread_y, y = s.split(y, [None, THREADS, TILE // THREADS])
    block_x, thread_x, x = s.split(x, [None, THREADS, TILE // THREADS])
    s.reorder(block_y, block_x, thread_y, thread_x, j, y, x)
    _bind(s, {"blockIdx.y": block_y, "blockIdx.x": block_x, "threadIdx.y": thread_y, "threadIdx.x": thread_x})
    for name in ("a_pad", "b_pad", "out_pad"):
        if name in _names(s):
            _bind_flat(s, s.get_sblock(name))


def gemm_shared(s: s_tir.Schedule, sizes: Sizes) -> None:
    """16 steps of the reduction at a time go through shared memory, fetched by all threads together in float4: a value
    of a or b leaves the main memory once per block and not once per thread."""
    block = s.get_sblock("out")
    j = s.get_loops(block)[4]
    outer, _ = s.split(j, [None, DEPTH])
    for operand in (0, 1):
        copy = s.cache_read(block, operand, "shared")
        s.compute_at(copy, outer)
        _fetch(s, copy, 5, (THREADS, THREADS), 4)


def gemm_registers(s: s_tir.Schedule, sizes: Sizes) -> None:
    """A thread's 16 sums live in its registers over the whole reduction, its inner loops unrolled: per step of the
    reduction it reads 8 values of shared memory for 16 products."""
    block = s.get_sblock("out")
    *_, thread_x, outer, inner, y, x = s.get_loops(block)
    written = s.cache_write(block, 0, "local")
    s.reverse_compute_at(written, thread_x)
    s.unroll(inner), s.unroll(y), s.unroll(x)
    s.decompose_reduction(block, outer)


# conv1d


def conv1d_threads(s: s_tir.Schedule, sizes: Sizes) -> None:
    """One thread per 2 neighbouring outputs, 128 threads a block: a warp's inputs lie side by side. (Two outputs 128
    apart would load better, but TVM takes what a thread writes for the whole stretch between them: the kernel compiled
    and gave wrong results.)"""
    _bind_flat(s, s.get_sblock("padded"))
    block = s.get_sblock("out")
    i, j = s.get_loops(block)
    outer, inner, pair = s.split(i, [None, 128, 2])
    s.reorder(outer, inner, j, pair)
    s.bind(outer, "blockIdx.x"), s.bind(inner, "threadIdx.x")


def conv1d_shared(s: s_tir.Schedule, sizes: Sizes) -> None:
    """32 taps at a time: the stretch of input that a block of 256 outputs needs for them is fetched once by all threads
    (each input serves up to 32 of the block's outputs), and so are the taps."""
    block = s.get_sblock("out")
    _, _, j, _ = s.get_loops(block)
    outer, _ = s.split(j, [None, 32])
    for operand in (0, 1):
        copy = s.cache_read(block, operand, "shared")
        s.compute_at(copy, outer)
        _, inner = s.split(_flat(s, copy, 3), [None, 128])
        s.bind(inner, "threadIdx.x")


def conv1d_registers(s: s_tir.Schedule, sizes: Sizes) -> None:
    """A thread's two sums in registers over the whole kernel, the taps of a fetch unrolled."""
    block = s.get_sblock("out")
    _, thread, outer, inner, pair = s.get_loops(block)
    written = s.cache_write(block, 0, "local")
    s.reverse_compute_at(written, thread)
    s.unroll(inner), s.unroll(pair)
    s.decompose_reduction(block, outer)


# conv2d


def conv2d_threads(s: s_tir.Schedule, sizes: Sizes) -> None:
    """A block makes 4 x 16 pixels of 16 channels: a thread per column and 4 channels, so that a warp's loads fall
    together."""
    _bind_flat(s, s.get_sblock("padded"))
    block = s.get_sblock("out")
    n, y, z, c, u, v = s.get_loops(block)
    n_block, n_thread, n = s.split(n, [None, 4, 4])
    y_block, y = s.split(y, [None, 4])
    z_block, z_thread = s.split(z, [None, 16])
    s.reorder(n_block, y_block, z_block, n_thread, z_thread, c, u, v, n, y)
    _bind(
        s,
        {
            "blockIdx.z": n_block,
            "blockIdx.y": y_block,
            "blockIdx.x": z_block,
            "threadIdx.y": n_thread,
            "threadIdx.x": z_thread,
        },
    )


def conv2d_shared(s: s_tir.Schedule, sizes: Sizes) -> None:
    """Four input channels at a time go through shared memory: a patch of the picture serves all 16 output channels of
    the block, a weight all its 64 pixels."""
    block = s.get_sblock("out")
    c = s.get_loops(block)[5]
    outer, _ = s.split(c, [None, 4])
    for operand in (0, 1):
        copy = s.cache_read(block, operand, "shared")
        s.compute_at(copy, outer)
        _fetch(s, copy, 6, (4, 16), 1)


def conv2d_registers(s: s_tir.Schedule, sizes: Sizes) -> None:
    """A thread's 16 sums (4 channels x 4 rows) in registers over the whole reduction, the block's loops unrolled: 8
    reads of shared memory for 16 products, and rows overlap."""
    block = s.get_sblock("out")
    *_, thread, outer, _, _, v, n, y = s.get_loops(block)
    written = s.cache_write(block, 0, "local")
    s.reverse_compute_at(written, thread)
    s.unroll(n), s.unroll(y)
    if sizes[4] <= 7:
        s.unroll(v)
    s.decompose_reduction(block, outer)


# depthwise


def depthwise_threads(s: s_tir.Schedule, sizes: Sizes) -> None:
    """A block per plane and 16 x 32 pixels of it, a thread per column and 4 rows. The padded copy is not made: the
    border is tested where a value is read, which on a GPU hides behind the load."""
    s.compute_inline(s.get_sblock("padded"))
    block = s.get_sblock("out")
    n, m, y, z, u, v = s.get_loops(block)
    y_block, y_thread, y = s.split(y, [None, 4, 4])
    z_block, z_thread = s.split(z, [None, 32])
    plane = s.fuse(n, m)
    s.reorder(plane, y_block, z_block, y_thread, z_thread, u, v, y)
    _bind(
        s,
        {
            "blockIdx.x": plane,
            "blockIdx.y": y_block,
            "blockIdx.z": z_block,
            "threadIdx.y": y_thread,
            "threadIdx.x": z_thread,
        },
    )


def depthwise_shared(s: s_tir.Schedule, sizes: Sizes) -> None:
    """The kernel of the plane in shared memory: every thread reads all of it, one address at a time, which shared
    memory broadcasts."""
    block = s.get_sblock("out")
    copy = s.cache_read(block, 1, "shared")
    s.compute_at(copy, s.get_loops(block)[2])
    _fetch(s, copy, 3, (4, 32), 1)


def depthwise_registers(s: s_tir.Schedule, sizes: Sizes) -> None:
    """A thread's four sums in registers over the whole kernel, rows and columns of the kernel unrolled up to 7 x 7:
    input rows shared by several outputs of the thread are read once."""
    block = s.get_sblock("out")
    *_, thread, u, v, y = s.get_loops(block)
    written = s.cache_write(block, 0, "local")
    s.reverse_compute_at(written, thread)
    s.unroll(y)
    if sizes[4] <= 7:
        s.unroll(u), s.unroll(v)
    s.decompose_reduction(block, u)


STEPS: dict[str, tuple[Step, ...]] = {
    "conv1d": (conv1d_threads, conv1d_shared, conv1d_registers),
    "gemm": (gemm_threads, gemm_shared, gemm_registers),
    "conv2d": (conv2d_threads, conv2d_shared, conv2d_registers),
    "depthwise": (depthwise_threads, depthwise_shared, depthwise_registers),
}


def _names(s: s_tir.Schedule) -> set[str]:
    return {str(s.get(block).name_hint) for block in s.get_child_blocks(s.get_sblock("root"))}


def original(s: s_tir.Schedule, sizes: Sizes) -> None:
    """The least that runs on a GPU: one thread per value of each stage, everything read from the main memory."""
    for name in sorted(_names(s) - {"out"}):
        _bind_flat(s, s.get_sblock(name))
    block = s.get_sblock("out")
    spatial = len(s.get(block).iter_vars) - sum(int(v.iter_type) == 2 for v in s.get(block).iter_vars)
    loops = s.get_loops(block)[:spatial]
    outer, inner = s.split(s.fuse(*loops) if spatial > 1 else loops[0], [None, 256])
    s.bind(outer, "blockIdx.x"), s.bind(inner, "threadIdx.x")


def scheduled(primitive: Primitive, sizes: Sizes, steps: tuple[Step, ...]) -> tvm.IRModule:
    """The primitive after these steps, with one thread per value where there are none."""
    schedule = s_tir.Schedule(tvm.IRModule({"main": primitive.prim_func(sizes)}))
    for step in steps or (original,):
        step(schedule, sizes)
    return schedule.mod


def cuda_source(module: tvm.IRModule, arch: str = NO_GPU_ARCH) -> str:
    """CUDA C++ of all kernels; needs neither GPU nor CUDA."""
    text: str = compiled(module, arch).imports[0].inspect_source()
    return text


def compiled(module: tvm.IRModule, arch: str) -> Any:
    """The module of the host's and the GPU's code. TVM's call of NVRTC takes the architecture from the target's scope
    only."""
    target = cuda_target(arch)
    with target:
        return tvm.compile(module, target=target).mod


def host_script(module: tvm.IRModule) -> str:
    """The calling side as TVMScript: sizes of the buffers between kernels, and for each kernel its arguments, grid and
    block."""
    pipeline, _, _ = tirx.get_tir_pipeline("s_tir")
    lowered = pipeline(tirx.transform.BindTarget(cuda_target())(module))
    text: str = next(function for name, function in lowered.functions.items() if name.name_hint == "main").script()
    return text
