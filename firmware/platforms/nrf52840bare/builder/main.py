"""PlatformIO's build script of the bare-metal nRF52840: the system's arm-none-eabi-gcc, our start-up code and linker
script."""

from os.path import join
from shutil import which

from SCons.Script import COMMAND_LINE_TARGETS, Default, DefaultEnvironment

env = DefaultEnvironment()
if which("arm-none-eabi-gcc") is None:
    print(
        "arm-none-eabi-gcc: not found; install gcc-arm-none-eabi and libnewlib-arm-none-eabi (Debian), or "
        "put it on PATH"
    )
    env.Exit(1)

CPU = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=softfp"]
BARE = join("$PROJECT_DIR", "firmware", "bare")

env.Replace(
    AR="arm-none-eabi-gcc-ar",
    AS="arm-none-eabi-gcc",
    CC="arm-none-eabi-gcc",
    CXX="arm-none-eabi-g++",
    OBJCOPY="arm-none-eabi-objcopy",
    RANLIB="arm-none-eabi-gcc-ranlib",
    SIZETOOL="arm-none-eabi-size",
    LINK="arm-none-eabi-gcc",
    PROGNAME="firmware",
    PROGSUFFIX=".elf",
    ARFLAGS=["rc"],
    SIZEPROGREGEXP=r"^(?:\.text|\.data|\.ARM\.exidx)\s+(\d+).*",
    SIZEDATAREGEXP=r"^(?:\.data|\.bss|\.stack)\s+(\d+).*",
    SIZECHECKCMD="$SIZETOOL -A -d $SOURCES",
    SIZEPRINTCMD="$SIZETOOL $SOURCES",
)
env.Append(
    ASFLAGS=[*CPU, "-x", "assembler-with-cpp"],
    CCFLAGS=[*CPU, "-O2", "-g", "-Wall", "-Wextra", "-ffunction-sections", "-fdata-sections"],
    CFLAGS=["-std=gnu11"],
    CXXFLAGS=["-std=gnu++14", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-fno-use-cxa-atexit"],
    CPPPATH=[BARE],
    LINKFLAGS=[
        *CPU,
        "-nostartfiles",
        "--specs=nano.specs",
        "--specs=nosys.specs",
        "-Wl,--gc-sections",
        "-Wl,--fatal-warnings",
        "-Wl,--no-warn-rwx-segments",
        f'-Wl,-Map="{join("$BUILD_DIR", "firmware.map")}"',
        "-T",
        f'"{join(BARE, "nrf52840.ld")}"',
    ],
)
env.BuildSources(join("$BUILD_DIR", "bare"), BARE)

program = env.BuildProgram()
if "nobuild" not in COMMAND_LINE_TARGETS:
    env.AddPlatformTarget("size", program, env.VerboseAction("$SIZEPRINTCMD", "Size of $SOURCE"), "Program size")
Default(program)
