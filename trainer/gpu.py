"""Which NVIDIA GPU this machine has, asked of its driver: whether torch or TVM can use it is another question."""

from __future__ import annotations

import ctypes

from trainer.errors import TrainerError

DRIVER = "libcuda.so.1"
NO_DEVICE, STUB = 100, 34  # CUresult: no GPU; the toolkit's stand-in for a driver
MAJOR, MINOR = 75, 76  # CUdevice_attribute: compute capability


def architecture() -> str:
    """The first GPU's architecture as nvcc names it ("sm_90"), "" without a driver or a GPU; TrainerError where there
    is a driver that fails."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return ""
    count, device, major, minor = (ctypes.c_int() for _ in range(4))
    for name, arguments in (
        ("cuInit", (0,)),
        ("cuDeviceGetCount", (ctypes.byref(count),)),
        ("cuDeviceGet", (ctypes.byref(device), 0)),
        ("cuDeviceGetAttribute", (ctypes.byref(major), MAJOR, device)),
        ("cuDeviceGetAttribute", (ctypes.byref(minor), MINOR, device)),
    ):
        result = getattr(driver, name)(*arguments)
        if result in (NO_DEVICE, STUB) or (name == "cuDeviceGetCount" and result == 0 and not count.value):
            return ""
        if result:
            raise TrainerError(
                f"GPU: the driver {DRIVER} must answer {name}, got error {result}; see that `nvidia-smi` works"
            )
    return f"sm_{major.value}{minor.value}"
