"""The compiled kernels: images under sanitizers and on a Cortex-M4 in QEMU, and what the compiler made of the C."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from kernels_image import (
    ARM_FLAGS,
    HOST_PORT,
    MARK,
    Case,
    build_arm_image,
    build_host_image,
    image_source,
    random_case,
    run_qemu,
)
from kernels_on_host import NN, SOURCES, STRICT, compiler
from shaped_layers import patch_case, plane_case, point_case, rows_case


def image_cases() -> list[Case]:
    """What the images run: random layers of all kinds, and the shapes that few of those have."""
    return [
        *map(random_case, range(140)),
        *(rows_case(depth, number) for number in range(24) for depth in (1, 2)),
        *map(plane_case, range(60)),
        *map(patch_case, range(60)),
        *map(point_case, range(3, 128, 2)),
    ]


def test_no_undefined_behaviour_and_nothing_outside_the_buffers(tmp_path: Path) -> None:
    image = build_host_image(tmp_path, image_cases())
    done = subprocess.run([str(image)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 and MARK in done.stdout, (done.stdout + done.stderr)[-4000:]


def test_the_image_reports_a_wrong_byte(tmp_path: Path) -> None:
    source = image_source([random_case(0)], HOST_PORT)
    assert "*const want0 = want0_room" in source
    spoilt = source.replace(
        "static const int8_t *const want0 = want0_room",
        "static const int8_t spoilt[1 << 16] = {99};\n"
        "static const int8_t *const want0 = want0_room == 0 ? want0_room : spoilt",
    )
    (tmp_path / "image.c").write_text(spoilt)
    command = [
        compiler(),
        "-std=gnu11",
        f"-I{NN}",
        str(tmp_path / "image.c"),
        *map(str, SOURCES),
        "-o",
        str(tmp_path / "image"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run([str(tmp_path / "image")], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "layer 0 byte 0: got " in done.stdout and ", want 99" in done.stdout


@pytest.mark.parametrize("optimize", ["-Os", "-O3"])
def test_real_instructions_on_a_cortex_m4(tmp_path: Path, optimize: str) -> None:
    compiler("qemu-system-arm")
    said = run_qemu(build_arm_image(tmp_path, image_cases(), optimize))
    assert MARK in said, said[-4000:]


PROBE = """
#include "nn_simd.h"
uint32_t PROBE(void);
uint32_t PROBE(void)
{
    static const uint32_t corners[] = {
        0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000u, 0x80008000u, 0x7FFF7FFF, 0xFFFFFFFFu,
    };
    uint32_t state = 1, hash = 2166136261u;
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t v[3];
        for (int j = 0; j < 3; j++) {
            state = state * 1664525u + 1013904223u;
            v[j] = (state >> 28) < 5 ? corners[(state >> 8) % 11] : state ^ (state >> 13);
        }
        const uint32_t results[] = {
            (uint32_t)nn_smlad(v[0], v[1], (int32_t)v[2]), (uint32_t)nn_smlabb(v[0], v[1], (int32_t)v[2]),
            (uint32_t)nn_smlatt(v[0], v[1], (int32_t)v[2]), (uint32_t)nn_smlabt(v[0], v[1], (int32_t)v[2]),
            (uint32_t)nn_smlatb(v[0], v[1], (int32_t)v[2]), nn_ssub16(v[0], v[1]),
            nn_sxtab16(v[0], v[1]), nn_sxtab16_ror8(v[0], v[1]), nn_sxtb16(v[0]),
            nn_sxtb16_ror8(v[0]), nn_pkhbt(v[0], v[1]), nn_pkhtb(v[0], v[1]), (uint32_t)nn_smmulr((int32_t)v[0], (int32_t)v[1]),
            (uint32_t)nn_ssat8_half((int32_t)v[0]), (uint32_t)nn_ssat8_half((int32_t)v[0] >> 22), nn_load_here(v + v[0] % 3),
            nn_load4((const char *)v + v[0] % 9), nn_pair((int32_t)v[0], (int32_t)v[1]),
        };
        for (unsigned j = 0; j < sizeof results / sizeof results[0]; j++) {
            hash = (hash ^ results[j]) * 16777619u;
        }
    }
    return hash;
}
"""  # noqa: E501


def test_emulated_instructions_equal_the_real_ones(tmp_path: Path) -> None:
    compiler("qemu-system-arm")
    arm = compiler("arm-none-eabi-gcc")
    (tmp_path / "probe.c").write_text(PROBE)
    image = build_arm_image(tmp_path, [random_case(0)], "-O2")
    source = (tmp_path / "image.c").read_text()
    source = source.replace(
        "int main(void)\n{",
        "uint32_t probe_real(void);\nuint32_t probe_emulated(void);\nint main(void)\n{\n"
        '    say(probe_real() == probe_emulated() ? "same values\\n" : "other values\\n");',
        1,
    )
    (tmp_path / "image.c").write_text(source)
    objects = []
    for name, flags in (("probe_real", []), ("probe_emulated", ["-DNN_EMULATE"])):
        objects.append(str(tmp_path / f"{name}.o"))
        command = [arm, *ARM_FLAGS, "-std=gnu11", "-O1", f"-DPROBE={name}", *flags, f"-I{NN}"]
        subprocess.run([*command, "-c", str(tmp_path / "probe.c"), "-o", objects[-1]], check=True)
    subprocess.run(
        [
            arm,
            *ARM_FLAGS,
            "-std=gnu11",
            "-O2",
            f"-I{NN}",
            "-nostartfiles",
            f"-T{tmp_path / 'image.ld'}",
            "-Wl,-n",
            str(tmp_path / "image.c"),
            *objects,
            *map(str, SOURCES),
            "-o",
            str(image),
        ],
        check=True,
    )
    disassembled = subprocess.run(
        ["arm-none-eabi-objdump", "-d", objects[0]], capture_output=True, text=True, check=True
    ).stdout
    assert all(
        word in disassembled
        for word in ("smlad", "smlabb", "smlatt", "sxtab16", "sxtb16", "pkhbt", "pkhtb", "smmulr", "ssat")
    )
    assert "same values" in run_qemu(image)


@pytest.mark.parametrize("optimize", ["-Os", "-O2", "-O3"])
def test_arm_build_has_no_warning_no_float_and_no_allocation(tmp_path: Path, optimize: str) -> None:
    arm = compiler("arm-none-eabi-gcc")
    for source in SOURCES:
        target = tmp_path / f"{source.stem}.o"
        command = [
            arm,
            "-mcpu=cortex-m4",
            "-mthumb",
            "-mfloat-abi=soft",
            *STRICT,
            "-Wconversion",
            "-Wno-sign-conversion",
            optimize,
        ]
        done = subprocess.run(
            [*command, "-c", str(source), "-o", str(target)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        wanted = subprocess.run(
            ["arm-none-eabi-nm", "-u", str(target)], capture_output=True, text=True, check=True
        ).stdout.split()
        foreign = {name for name in wanted if not name.startswith("nn_")} - {"U", "memcpy", "memset", "memmove"}
        assert not foreign, f"{source.name} needs {foreign}"  # soft floats would need __aeabi_f*


def test_headers_serve_cpp14_projects(tmp_path: Path) -> None:
    probe = tmp_path / "probe.cpp"
    probe.write_text(
        '#include "nn.h"\n#include "nn_requant.h"\nint main() { return nn_scale(1000, 1 << 30, -2) - 125; }\n'
    )
    command = [
        compiler("g++"),
        "-std=gnu++14",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{NN}",
        str(probe),
        "-o",
        str(tmp_path / "probe"),
    ]
    subprocess.run(command, check=True)
    subprocess.run([str(tmp_path / "probe")], check=True)
