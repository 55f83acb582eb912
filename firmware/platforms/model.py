"""Extra script of each PlatformIO environment: compile the generated model of $KWS_MODEL (default: the environment's
custom_model, and without one firmware/generated).

The option custom_engine says which generated source is wanted: aot or tflm. model_tvm.S is there where TVM's LLVM
compiled layers.
"""

import os
from os.path import abspath, isdir, isfile, join

Import("env")  # noqa: F821 - given by SCons
env = globals()["env"]

chosen = env.GetProjectOption("custom_model", join("firmware", "generated"))
folder = abspath(os.environ.get("KWS_MODEL") or join(env.subst("$PROJECT_DIR"), chosen))
source = {"aot": "model_aot.c", "tflm": "model_data.c"}[env.GetProjectOption("custom_engine")]
if source == "model_aot.c" and isfile(join(folder, "kws_model.h")):
    with open(join(folder, "kws_model.h")) as header:
        if "KWS_TFLM_ONLY" in header.read():
            print(f"{folder}: its model runs in TensorFlow Lite Micro only, as `convert` said; build env nano33ble")
            env.Exit(1)
missing = [name for name in (source, "kws_model.h") if not isfile(join(folder, name))]
if missing:
    print(
        f"{folder}: no {' and no '.join(missing)}; make them with `python -m converter convert MODEL --out "
        f"DIR` and set KWS_MODEL=DIR"
    )
    env.Exit(1)
if isdir(join(folder, ".convert.ready")):
    print(f"{folder}: `python -m converter convert` was stopped there; make them with it again")
    env.Exit(1)
kernels = join("$PROJECT_DIR", "firmware", "lib", "nn")
env.Append(CPPPATH=[folder, kernels])
env.BuildSources(
    join("$BUILD_DIR", "model"), folder, f"-<*> +<{source}>" + (" +<model_tvm.S>" if source == "model_aot.c" else "")
)
if source == "model_aot.c":  # the library finder does not look into the generated source
    env.BuildSources(join("$BUILD_DIR", "nn"), kernels)
tflm = join(env.subst("$PROJECT_DIR"), "tflm")
if source == "model_data.c" and isdir(tflm):  # what host/tflm_sources.py copied; PlatformIO's library elsewhere
    roots = ("", "flatbuffers/include", "gemmlowp", "ruy", "kissfft", "cmsis/CMSIS/Core/Include", "cmsis_nn")
    env.Append(
        CPPPATH=[tflm, *(join(tflm, "third_party", *root.split("/")) for root in roots)],
        CPPDEFINES=["TF_LITE_STATIC_MEMORY", "TF_LITE_STRIP_ERROR_STRINGS"],
        LIBS=["m"],
        CCFLAGS=["-Wno-unused-parameter", "-Wno-sign-compare"],
    )
    if isdir(join(tflm, "third_party", "cmsis_nn")):
        env.Append(CPPDEFINES=["CMSIS_NN"], CPPPATH=[join(tflm, "third_party", "cmsis_nn", "Include")])
    with open(join(tflm, "tensorflow", "lite", "micro", "kernels", "fully_connected.h")) as kernel:
        if "per_channel" in kernel.read():
            env.Append(CPPDEFINES=["KWS_TFLM_HAS_PER_CHANNEL_DENSE"])
    env.BuildSources(join("$BUILD_DIR", "tflm"), tflm)
