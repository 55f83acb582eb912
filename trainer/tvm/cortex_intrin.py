"""The Cortex-M4's dual multiply-accumulate as tensor intrinsics: what it computes, and how each code generator says it.

For the C target the impl calls two functions of our own (cortex_firmware.STUBS); for LLVM it calls LLVM's ARM
intrinsics.
"""

from __future__ import annotations

from typing import Any

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

# TVMScript: read by TVM's parser, not run. Buffer annotations are calls, which mypy cannot read; so match_buffer.


def described(n: int, dtype: str) -> Any:
    """What the intrinsic computes: C[0] += sum of A[k] B[k] over n operands."""

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def desc(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (n,), dtype, offset_factor=1)
        B = T.match_buffer(b, (n,), dtype, offset_factor=1)
        C = T.match_buffer(c, (1,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0], A[0:n], B[0:n])
            T.writes(C[0])
            for i in range(n):
                with T.sblock("update"):
                    k = T.axis.reduce(n, i)
                    C[0] = C[0] + T.cast(A[k], "int32") * T.cast(B[k], "int32")

    return desc


def called(n: int, dtype: str, name: str) -> Any:
    """The same as a call of our own C function."""

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def impl(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (n,), dtype, offset_factor=1)
        B = T.match_buffer(b, (n,), dtype, offset_factor=1)
        C = T.match_buffer(c, (1,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0], A[0:n], B[0:n])
            T.writes(C[0])
            C[0] = T.call_extern("int32", name, T.address_of(A[0]), T.address_of(B[0]), C[0])

    return impl


@T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
def dot2_llvm(a: T.handle, b: T.handle, c: T.handle) -> None:
    """Two int16 products by one SMLAD."""
    A = T.match_buffer(a, (2,), "int16", offset_factor=1)
    B = T.match_buffer(b, (2,), "int16", offset_factor=1)
    C = T.match_buffer(c, (1,), "int32", offset_factor=1)
    with T.sblock("root"):
        T.reads(C[0], A[0:2], B[0:2])
        T.writes(C[0])
        C[0] = T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.arm.smlad"),
            T.reinterpret(A.vload([0], "int16x2"), dtype="int32"),
            T.reinterpret(B.vload([0], "int16x2"), dtype="int32"),
            C[0],
            dtype="int32",
        )


@T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
def dot4_llvm(a: T.handle, b: T.handle, c: T.handle) -> None:
    """Four int8 products: even and odd operands widened by SXTB16, two SMLADs."""
    A = T.match_buffer(a, (4,), "int8", offset_factor=1)
    B = T.match_buffer(b, (4,), "int8", offset_factor=1)
    C = T.match_buffer(c, (1,), "int32", offset_factor=1)
    with T.sblock("root"):
        T.reads(C[0], A[0:4], B[0:4])
        T.writes(C[0])
        x: T.let = T.reinterpret(A.vload([0], "int8x4"), dtype="int32")
        w: T.let = T.reinterpret(B.vload([0], "int8x4"), dtype="int32")
        even: T.let = T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.arm.smlad"),
            T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id("llvm.arm.sxtb16"), x, dtype="int32"),
            T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id("llvm.arm.sxtb16"), w, dtype="int32"),
            C[0],
            dtype="int32",
        )
        C[0] = T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.arm.smlad"),
            T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id("llvm.arm.sxtb16"), T.shift_right(x, 8), dtype="int32"),
            T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id("llvm.arm.sxtb16"), T.shift_right(w, 8), dtype="int32"),
            even,
            dtype="int32",
        )


def register() -> None:
    """Make dot2 and dot4 known by name, one form per code generator."""
    for n, dtype, by_llvm in ((2, "int16", dot2_llvm), (4, "int8", dot4_llvm)):
        for generator, impl in (("c", called(n, dtype, f"tvm_dot{n}")), ("llvm", by_llvm)):
            TensorIntrin.register(f"kws_dot{n}_{generator}", described(n, dtype), impl, override=True)
