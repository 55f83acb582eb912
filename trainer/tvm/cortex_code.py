"""Machine code of scheduled int8 layers: a plain C function or its ARM assembly, without TVM's run-time library."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.target import Target, codegen

DEBUG = (".cfi", ".loc", ".file", ".fnstart", ".fnend", ".save", ".pad", ".setfp", ".vsave", ".cantunwind")
_M4 = {
    "mtriple": "thumbv7em-none-eabi",
    "mcpu": "cortex-m4",
    "mfloat-abi": "soft",
    "vector-width": 128,
}  # TVM's own choice, unasked
TARGETS = {"c": Target("c"), "llvm": Target({"kind": "llvm", **_M4})}


@tirx.transform.prim_func_pass(opt_level=0)  # type: ignore[untyped-decorator]
def _plain_pointers(function: Any, _module: Any, _context: Any) -> Any:
    """Buffer parameters become pointers, so that no packed calling convention is needed."""
    pointers = [tirx.Var(buffer.name, buffer.data.ty) for buffer in function.params]
    declared = [
        tirx.DeclBuffer(buffer, data=pointer) for buffer, pointer in zip(function.params, pointers, strict=True)
    ]
    body = tirx.SeqStmt([*declared, function.body])
    return tirx.PrimFunc(pointers, body, function.ret_type, function.attrs)


def lowered(schedule: s_tir.Schedule, name: str, target: Target) -> tvm.IRModule:
    """The passes of TVM's own pipeline for CPUs, with plain pointers and without checks of the arguments."""
    passes = [
        tirx.transform.BindTarget(target),
        s_tir.transform.CanonicalizeLoop(),
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.CompactBufferAllocation(),
        s_tir.transform.LowerMatchBuffer(),
        s_tir.transform.StmtSimplify(),
        s_tir.transform.LowerOpaqueBlock(),
        _plain_pointers,
        tirx.transform.FlattenBuffer(),
        tirx.transform.NarrowDataType(32),
        tirx.transform.VectorizeLoop(True),
        tirx.transform.StorageRewrite(),
        tirx.transform.UnrollLoop(),
        s_tir.transform.RenormalizeSplitPattern(),
        tirx.transform.StmtSimplify(),
        tirx.transform.RemoveNoOp(),
        s_tir.transform.RewriteUnsafeSelect(),
        tirx.transform.CommonSubexprElim(),
        tirx.transform.LowerTVMBuiltin(),
        tirx.transform.LowerIntrin(),
    ]
    function = schedule.mod["main"].with_attr("global_symbol", name)
    return tvm.ir.transform.Sequential(passes)(tvm.IRModule({name: function}))


def source(schedule: s_tir.Schedule, name: str, generator: str) -> str:
    """C or ARM assembly of one function."""
    target = TARGETS[generator]
    built = codegen.build_module(lowered(schedule, name, target), target)
    return _own_c(built.inspect_source()) if generator == "c" else _own_assembly(built.inspect_source("s"), name)


def _own_c(text: str) -> str:
    """The function alone: TVM's headers, its library's context and all declarations go (STUBS of cortex_firmware has
    what is called)."""
    noise = ("#", "extern", "//", "void* __tvm")
    lines = [
        line
        for line in text.splitlines()
        if line.startswith(" ") or not (line.startswith(noise) or line.endswith(");"))
    ]
    return "\n".join(lines).replace("TVM_DLL ", "static ").strip() + "\n"


def _own_assembly(text: str, name: str) -> str:
    """The function alone, without debug sections, unwinding and TVM's half-precision helpers; its local labels carry
    its name."""
    kept, skipping = [], False
    for line in text.split("\t.section\t.text.tvm.fp16.conv")[0].splitlines():
        word = [*line.split("\t"), "", ""][1]
        if word in (".section", ".text"):
            skipping = ".debug" in line
        if not skipping and not word.startswith(DEBUG):
            kept.append(line.replace(".L", f".L{name}_"))
    return "\n".join(kept) + "\n"
