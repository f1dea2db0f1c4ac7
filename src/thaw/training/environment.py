"""Where a training runs: threads, deterministic kernels, the choice of a device, and a record of it all.

The same machine with the same number of threads gives the same bits; other thread counts, instruction sets or
versions of torch give others. So all of these are pinned where possible and recorded. Records name no host, no user
and no path.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

import thaw
from thaw.errors import UserError

LIMITS = (  # variables that change which instructions the libraries use
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "OPENBLAS_CORETYPE",
)
PRODUCTS = {  # torch's switches, by what makes the products
    "matrices": torch.backends.cuda.matmul,
    "convolutions": torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    "recurrence": torch.backends.cudnn.rnn,
}
TF32_SINCE = (8, 0)  # compute capability: Ampere
# Options of glibc's mallopt(3). Of the second, more than 32 MB is not taken.
MALLOPT = {"trim_threshold": (-1, 512 << 20), "mmap_threshold": (-3, 32 << 20), "arena_max": (-8, 1)}
SLOTS = 64  # jobs that may share one GPU before `claim_gpu` gives up


def settle(threads: int) -> None:
    """Pin threads and make every kernel deterministic. Call it before the first tensor operation."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms, but that loads the whole compiler
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time, adds nothing
    torch.backends.cudnn.benchmark = False
    set_products("ieee")
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Have the C library give freed memory to the next batch, which is as large, instead of back to the system.

    Else every array of a front end and every activation comes as pages that the system first has to clear.
    """
    with suppress(AttributeError, OSError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in MALLOPT.values():
            mallopt(option, value)


def set_products(precision: str) -> None:
    """What a GPU makes of the products of fp32 numbers: "ieee", all of it, or "tf32", of 10 bits behind the point."""
    for products in PRODUCTS.values():
        products.fp32_precision = precision


@contextmanager
def products_in(precision: str, device: torch.device) -> Iterator[None]:
    """A GPU's products are what the `precision` of a recipe says; afterwards they are whole again.

    Raises UserError where the device has no TF32, and the recipe wants it.
    """
    if precision != "tf32":
        yield
        return
    if device.type != "cuda":
        raise UserError(f"precision: tf32: a {device.type.upper()} has none; take fp32, or --device cuda")
    if torch.cuda.get_device_capability(device) < TF32_SINCE:
        raise UserError(f"precision: tf32: {torch.cuda.get_device_name(device)} is older than it; take fp32")
    set_products("tf32")
    try:
        yield
    finally:
        set_products("ieee")


def claim_gpu(count: int, folder: Path) -> tuple[int, IO[str]]:
    """The number of the GPU with the fewest trainings, of `count`, and the lock that holds it while it is open.

    `folder` holds one lock file per GPU and place on it; the first round of jobs gets a GPU each, the next shares.
    Raises UserError when every place is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for slot in range(SLOTS):
        for gpu in range(count):
            lock = (folder / f"gpu-{gpu}-{slot}.lock").open("a")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
            else:
                return gpu, lock
    raise UserError(f"{folder}: {SLOTS} jobs share each of {count} GPUs already; run fewer jobs at once")


def choose_device(wanted: str) -> tuple[torch.device, IO[str] | None]:
    """The device for `auto`, `cpu` or `cuda`, and the lock that holds it (None where none is needed).

    Under torchrun each process takes the GPU of its local rank; where a scheduler has set CUDA_VISIBLE_DEVICES, the
    first visible one; else the one with the fewest trainings on this machine.
    Raises UserError where `cuda` is wanted and there is none.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu"), None
    if not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; use --device auto or cpu")
    if "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"])), None
    if os.environ.get("CUDA_VISIBLE_DEVICES"):
        return torch.device("cuda", 0), None
    folder = Path(tempfile.gettempdir()) / f"thaw-gpus-{os.getuid()}"
    gpu, lock = claim_gpu(torch.cuda.device_count(), folder)
    torch.cuda.set_device(gpu)  # or streams, events and memory that are asked for without a device are those of GPU 0
    return torch.device("cuda", gpu), lock


def bound_memory(device: torch.device, share: int) -> None:
    """Let this process have so many hundredths of a GPU's memory: one that wants more fails itself, not a neighbour."""
    if device.type == "cuda" and share < 100:
        torch.cuda.set_per_process_memory_fraction(share / 100, device)


def code_version() -> str:
    """The git commit of this code, with "+" where files differ from it; empty outside its repository."""
    here = Path(thaw.__file__).parent

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=20)

    try:
        where = git("rev-parse", "--show-prefix", "HEAD")
        if where.returncode or where.stdout.split()[0] != "src/thaw/":
            return ""
        changed = git("status", "--porcelain", "--", str(here)).stdout.strip()
        return where.stdout.split()[1] + ("+" if changed else "")
    except (OSError, subprocess.TimeoutExpired, IndexError):
        return ""


def processor() -> str:
    """The model of the processor, as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model", "cpu model"):
                return " ".join(value.split())
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def libraries() -> dict[str, str]:
    """The libraries that torch and numpy compute with, and their versions."""
    told = torch.__config__.show()
    found = {
        "mkl": re.search(r"Math Kernel Library Version (\S+)", told),
        "onednn": re.search(r"MKL-DNN v(\S+)", told),
        "openmp": re.search(r"OpenMP (\d+)", told),
        "lapack": re.search(r"LAPACK_INFO=(\w+)", told),
    }
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    names = {name: match.group(1) for name, match in found.items() if match}
    return {**names, "numpy_blas": f"{blas.get('name', '?')} {blas.get('version', '?')}"}


def arithmetic() -> dict[str, str]:
    """Digests of small calculations: what no version tells, that two machines give other bits, is seen in these.

    The libraries choose their code by the processor when they run, and by variables such as ONEDNN_MAX_CPU_ISA; oneDNN
    does not tell which it took. Takes some milliseconds, and draws no random number.
    """
    x = torch.arange(1, 1 + 8 * 40 * 64, dtype=torch.float32).mul(0.618034).frac().sub(0.5).reshape(8, 40, 64)
    w = torch.arange(1, 1 + 64 * 64, dtype=torch.float32).mul(0.414214).frac().sub(0.5).reshape(64, 64)
    gates, none = w.repeat(4, 1), torch.zeros(1, 8, 64)
    with torch.no_grad():
        results = {
            "product": x.reshape(-1, 64) @ w,
            "convolution": torch.conv1d(x.transpose(1, 2), w.reshape(64, 64, 1).repeat(1, 1, 5), padding=2),
            "depthwise": torch.conv1d(x.transpose(1, 2), w[:, :11].reshape(64, 1, 11), padding=5, groups=64),
            "recurrence": torch.lstm(
                x, (none, none), (gates, gates, gates[:, 0], gates[:, 1]), True, 1, 0.0, False, False, True
            )[0],
            "softmax": x.log_softmax(-1),
            "sigmoid": x.sigmoid(),
            "numpy": torch.from_numpy(np.abs(np.fft.rfft(x.numpy())) @ w[:33].numpy()),
        }
    return {
        name: hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()[:8] for name, value in results.items()
    }


def record(device: torch.device, processes: int, gpu_share: int = 100) -> dict[str, Any]:
    """What decides the bits beside the recipe: versions, threads, processor, instruction sets, device, code."""
    facts: dict[str, Any] = {
        "thaw": code_version() or thaw.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "libraries": libraries(),
        "machine": platform.machine(),
        "processor": processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "instruction_sets": {name: os.environ[name][:40] for name in LIMITS if name in os.environ},
        "arithmetic": arithmetic(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "processes": processes,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "device": device.type,
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
        facts["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        facts["gpu_share"] = gpu_share
        facts["products"] = {name: products.fp32_precision for name, products in PRODUCTS.items()}
    return facts
