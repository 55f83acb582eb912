"""The Cortex-M4's dual multiply-accumulate as tensor intrinsics: what it computes, and how each code generator says it.

For the C target the impl calls two functions of our own (cortex_firmware.STUBS); for LLVM it calls LLVM's ARM
intrinsics.
"""

from __future__ import annotations

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

# TVMScript: read by TVM's parser, not run. Buffer annotations are calls, which mypy cannot read; so match_buffer.


@T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
def dot2_desc(a: T.handle, b: T.handle, c: T.handle) -> None:
    A = T.match_buffer(a, (2,), "int16", offset_factor=1)
    B = T.match_buffer(b, (2,), "int16", offset_factor=1)
    C = T.match_buffer(c, (1,), "int32", offset_factor=1)
    with T.sblock("root"):
        T.reads(C[0], A[0:2], B[0:2])
        T.writes(C[0])
        for i in range(2):
            with T.sblock("update"):
                k = T.axis.reduce(2, i)
                C[0] = C[0] + T.cast(A[k], "int32") * T.cast(B[k], "int32")


@T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
def dot2_c(a: T.handle, b: T.handle, c: T.handle) -> None:
    A = T.match_buffer(a, (2,), "int16", offset_factor=1)
    B = T.match_buffer(b, (2,), "int16", offset_factor=1)
    C = T.match_buffer(c, (1,), "int32", offset_factor=1)
    with T.sblock("root"):
        T.reads(C[0], A[0:2], B[0:2])
        T.writes(C[0])
        C[0] = T.call_extern("int32", "tvm_dot2", T.address_of(A[0]), T.address_of(B[0]), C[0])


@T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
def dot2_llvm(a: T.handle, b: T.handle, c: T.handle) -> None:
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
def dot4_desc(a: T.handle, b: T.handle, c: T.handle) -> None:
    A = T.match_buffer(a, (4,), "int8", offset_factor=1)
    B = T.match_buffer(b, (4,), "int8", offset_factor=1)
    C = T.match_buffer(c, (1,), "int32", offset_factor=1)
    with T.sblock("root"):
        T.reads(C[0], A[0:4], B[0:4])
        T.writes(C[0])
        for i in range(4):
            with T.sblock("update"):
                k = T.axis.reduce(4, i)
                C[0] = C[0] + T.cast(A[k], "int32") * T.cast(B[k], "int32")


@T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
def dot4_c(a: T.handle, b: T.handle, c: T.handle) -> None:
    A = T.match_buffer(a, (4,), "int8", offset_factor=1)
    B = T.match_buffer(b, (4,), "int8", offset_factor=1)
    C = T.match_buffer(c, (1,), "int32", offset_factor=1)
    with T.sblock("root"):
        T.reads(C[0], A[0:4], B[0:4])
        T.writes(C[0])
        C[0] = T.call_extern("int32", "tvm_dot4", T.address_of(A[0]), T.address_of(B[0]), C[0])


@T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
def dot4_llvm(a: T.handle, b: T.handle, c: T.handle) -> None:
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
    for name, desc, impl in (
        ("kws_dot2_c", dot2_desc, dot2_c),
        ("kws_dot2_llvm", dot2_desc, dot2_llvm),
        ("kws_dot4_c", dot4_desc, dot4_c),
        ("kws_dot4_llvm", dot4_desc, dot4_llvm),
    ):
        TensorIntrin.register(name, desc, impl, override=True)
