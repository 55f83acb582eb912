"""Makes .venv and installs what the toolchain needs. Run by make; standard library only, any Python 3.

    python3 bootstrap.py [EXTRA ...]      EXTRA: test, tf, roofline, tvm, cuda, ray, digits, wakewords, fuzz; keyword:
                                          the programs that a word of one's own needs

pyproject.toml holds the ranges that are allowed, constraints.txt one exact set, which is installed.
TORCH_INDEX names the package index used for torch where the configured one offers only a CUDA build, TORCH_CUDA_INDEX
the one where the extra cuda is wanted and the configured one offers only a CPU build.
"""

import ctypes.util
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "constraints.txt"
TORCH = next(line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("torch=="))
TORCH_INDEX = os.environ.get("TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
TORCH_CUDA_INDEX = os.environ.get("TORCH_CUDA_INDEX", "https://download.pytorch.org/whl/cu130")
PROGRAMS = {"keyword": ("ffmpeg", "flite"), "test": ("qemu-system-arm", "ffmpeg", "flite", "chromium")}
BY_HAND = {
    "Debian/Ubuntu/WSL": "sudo apt-get install {packages}",
    "macOS": "brew install espeak-ng ffmpeg portaudio && brew install --cask gcc-arm-embedded",
    "Windows": "install WSL (wsl --install) and run make inside it",
}


def stop(sentence):
    print("setup: " + sentence, file=sys.stderr)
    sys.exit(1)


def run(command, **options):
    done = subprocess.run([str(part) for part in command], **options)
    if done.returncode:
        stop("`%s` failed with exit code %d; its output is above" % (" ".join(map(str, command)), done.returncode))
    return done


def has_newlib():
    """True when the Arm compiler finds its C library (a Debian package of its own)."""
    if not shutil.which("arm-none-eabi-gcc"):
        return False
    found = (
        subprocess.run(["arm-none-eabi-gcc", "-print-file-name=nano.specs"], stdout=subprocess.PIPE)
        .stdout.decode()
        .strip()
    )
    return os.path.isabs(found)


def has_libc():
    """True when a C program that includes a C library header compiles."""
    if not shutil.which("gcc"):
        return False
    check = subprocess.run(
        ["gcc", "-E", "-x", "c", "-"],
        input=b"#include <stdio.h>\n",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return check.returncode == 0


def has_venv():
    return subprocess.run([sys.executable, "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL).returncode == 0


def missing_packages(extras):
    """Debian names of the system packages that are not here."""
    wanted = [
        ("python3-venv", has_venv()),
        ("gcc", shutil.which("gcc")),
        ("libc6-dev", has_libc() or not shutil.which("apt-get")),
        ("gcc-arm-none-eabi", shutil.which("arm-none-eabi-gcc")),
        ("libnewlib-arm-none-eabi", has_newlib()),
        ("espeak-ng", shutil.which("espeak-ng")),
        *((name, shutil.which(name)) for name in PROGRAMS["keyword"] if "keyword" in extras),
        ("libportaudio2", "keyword" not in extras or ctypes.util.find_library("portaudio")),
    ]
    return [name for name, found in wanted if not found]


def missing_for_tests(extras):
    """Debian names of system packages without which some tests are skipped."""
    wanted = PROGRAMS["test"] if "test" in extras and shutil.which("apt-get") else ()
    missing = [name for name in wanted if not shutil.which(name)]
    return missing + (["libportaudio2"] if wanted and not ctypes.util.find_library("portaudio") else [])


def install_system_packages(extras):
    missing, for_tests = missing_packages(extras), missing_for_tests(extras)
    if not missing and not for_tests:
        return
    prefix = [] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["sudo", "-n"]
    allowed = shutil.which("apt-get") and (
        not prefix or subprocess.run(["sudo", "-n", "true"], stderr=subprocess.DEVNULL).returncode == 0
    )
    if allowed:
        quiet = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        install = [*prefix, "apt-get", "install", "-y", "-qq", "--no-install-recommends"]
        subprocess.run([*prefix, "apt-get", "update", "-qq"], env=quiet)
        if missing:
            run([*install, *missing], env=quiet, stdout=subprocess.DEVNULL)
        for name in for_tests:
            subprocess.run([*install, name], env=quiet, stdout=subprocess.DEVNULL)
        missing, for_tests = missing_packages(extras), missing_for_tests(extras)
    if for_tests:
        print("setup: without %s some tests will be skipped" % ", ".join(for_tests))
    if missing:
        ways = "; ".join("%s: %s" % (system, way.format(packages=" ".join(missing))) for system, way in BY_HAND.items())
        stop("missing %s; install: %s" % (", ".join(missing), ways))


def venv_python():
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def torch_index_options(with_cuda):
    """pip options that fetch a CPU or a CUDA build of torch: none where the configured index has it, else those of the
    index that has."""
    command = [
        venv_python(),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--dry-run",
        "--no-deps",
        "--ignore-installed",
        "--report",
        "-",
        TORCH,
    ]
    found = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if found.returncode == 0:
        wanted = json.loads(found.stdout.decode())["install"][0]
        needs = wanted["metadata"].get("requires_dist", [])
        cuda = sys.platform == "linux" and any(need.lower().startswith(("nvidia", "cuda")) for need in needs)
        cuda = cuda and "+cpu" not in wanted["download_info"]["url"].replace("%2B", "+")
        if cuda == with_cuda:
            return []
    return ["--index-url", TORCH_CUDA_INDEX if with_cuda else TORCH_INDEX]


def install_python_packages(extras):
    stamp_text = (ROOT / "pyproject.toml").read_text() + CONSTRAINTS.read_text() + " ".join(extras) + sys.version
    stamp = VENV / (".installed-" + hashlib.sha256(stamp_text.encode()).hexdigest()[:16])
    if stamp.exists():
        return
    if not venv_python().exists():
        print("setup: making .venv")
        run([sys.executable, "-m", "venv", VENV])
    pip = [venv_python(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    with_cuda = "cuda" in extras  # a CUDA build serves without the extra too, and is left
    has_torch = (
        subprocess.run(
            [
                str(venv_python()),
                "-c",
                "import torch; assert torch.__version__.split('+')[0] == '%s'%s"
                % (TORCH.split("==")[1], " and torch.version.cuda" if with_cuda else ""),
            ],
            stderr=subprocess.DEVNULL,
        ).returncode
        == 0
    )
    if not has_torch:
        print("setup: installing %s (%s build)" % (TORCH, "CUDA" if with_cuda else "CPU"))
        # alone: without a pin, pip would fetch gigabytes of CUDA; forced: a CPU build of this version would be kept
        run([*pip, *torch_index_options(with_cuda), *(["--force-reinstall"] if with_cuda else []), TORCH])
    wanted = "%s[%s]" % (ROOT, ",".join(extras)) if extras else str(ROOT)
    print("setup: installing the packages of pyproject.toml %s" % " ".join(extras))
    run([*pip, "--constraint", CONSTRAINTS, "--editable", wanted])
    stamp.touch()


def main():
    if not (3, 10) <= sys.version_info[:2] <= (3, 14):
        stop(
            "Python 3.10 to 3.14 is needed, this is %d.%d; point make at one with PYTHON=python3.11"
            % sys.version_info[:2]
        )
    install_system_packages(sys.argv[1:])
    install_python_packages(sorted(extra for extra in sys.argv[1:] if extra != "keyword"))


main()
