"""The conditions that every record carries."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models import create_model
from reproduce.environment import (
    choose_device,
    choose_precision,
    computing_in,
    describe_environment,
    with_weights_in,
)
from reproduce.errors import InputError
from reproduce.machine import (
    CpuTimes,
    LoadWatch,
    available_memory_bytes,
    cpu_name,
    git_commit,
    has_bfloat16,
    instruction_sets,
    processor,
    processor_name,
)


def test_the_description_is_json_and_names_the_conditions_of_a_measurement() -> None:
    described = describe_environment("cpu", "bfloat16")
    assert json.loads(json.dumps(described)) == described
    assert described["device"] and described["device_type"] == "cpu"
    assert described["precision"] == "bfloat16"
    assert described["torch_threads"] == torch.get_num_threads()
    assert described["cpu_count"] == os.cpu_count()
    assert described["libraries"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert described["python"] == ".".join(map(str, sys.version_info[:3]))
    assert (described["cuda"], described["tf32"]) == (None, False)
    assert 1 <= described["usable_cores"] <= described["cpu_count"]
    assert 2**28 < available_memory_bytes() <= described["memory_bytes"]
    assert described["blas"] and len(described["load_average"]) == 3


def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for present, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda present=present: present)
        assert choose_device("auto") == device
    assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_here_is_one_line(name: str) -> None:
    with pytest.raises(InputError, match=f"--device {name} cannot be used here") as error:
        choose_device(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("native", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_bfloat16_on_a_gpu_that_multiplies_it_natively_alone(
    monkeypatch: pytest.MonkeyPatch, native: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native and not including_emulation)
    assert choose_precision("auto", "cuda:0") == precision
    assert choose_precision("auto", "cpu") == "float32"


def test_a_named_precision_is_taken_as_it_is_and_fp16_needs_a_gpu() -> None:
    assert [choose_precision(name, "cuda") for name in ("fp32", "bf16", "fp16")] == ["float32", "bfloat16", "float16"]
    assert choose_precision("bf16", "cpu") == "bfloat16"
    with pytest.raises(InputError, match="--precision fp16 needs a GPU, and the device is cpu: use bf16 or fp32"):
        choose_precision("fp16", "cpu")


def test_products_are_in_the_precision_that_is_asked_for() -> None:
    a = torch.ones(2, 2)
    for name in ("float32", "bfloat16"):
        with computing_in(name, "cpu"):
            assert str((a @ a).dtype) == f"torch.{name}"
    assert (a @ a).dtype == torch.float32


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("float16", True)])
def test_a_gpu_has_tf32_in_narrow_precisions_alone(precision: str, allowed: bool) -> None:
    """The switches exist without a GPU; torch leaves that of convolutions on."""

    def switches() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = switches()
    with computing_in(precision, "cuda"):
        assert switches() == (allowed, allowed)
        with computing_in(precision, "cpu"):
            assert switches() == (allowed, allowed)
    assert switches() == before


def make_checkout(folder: Path) -> None:
    """A repository with a committed file under reproduce/ and a committed record."""
    for name in ("reproduce/code.py", "reports/records/train.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old\n")
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_changed_code_marks_the_commit_and_changed_records_do_not(tmp_path: Path) -> None:
    make_checkout(tmp_path)

    def commit() -> str:
        git_commit.cache_clear()
        return str(git_commit(tmp_path / "reproduce"))

    assert re.fullmatch("[0-9a-f]{12}", commit())
    (tmp_path / "reports/records/train.jsonl").write_text("old\nnew\n")
    assert re.fullmatch("[0-9a-f]{12}", commit())
    (tmp_path / "reproduce/code.py").write_text("new\n")
    assert re.fullmatch(r"[0-9a-f]{12}\+changes", commit())


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) is None


# --- the machine ---


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/cpuinfo is Linux's")
def test_processor_and_instruction_sets_are_those_of_cpuinfo() -> None:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    flags = set(cpuinfo.split())
    assert set(instruction_sets()) <= flags
    assert has_bfloat16() == bool({"avx512_bf16", "amx_bf16", "bf16"} & flags)
    assert processor().startswith(re.search(r"model name\s*: (.*)", cpuinfo).group(1))  # type: ignore[union-attr]


NAMES = {
    "AMD EPYC (AuthenticAMD, cpu family 25, model 17, stepping 1)": "AMD EPYC (family 25, model 17, stepping 1)",
    "AMD EPYC (AuthenticAMD, cpu family 26, model 2, stepping 1)": "AMD EPYC (family 26, model 2, stepping 1)",
    "AMD EPYC-v4 Processor (AuthenticAMD, cpu family 23, model 49, stepping 0)": (
        "AMD EPYC-v4 (family 23, model 49, stepping 0)"
    ),
    "AMD EPYC 9654 96-Core Processor (AuthenticAMD, cpu family 25, model 17, stepping 1)": "AMD EPYC 9654",
    "AMD EPYC 7R13 Processor (AuthenticAMD, cpu family 25, model 1, stepping 1)": "AMD EPYC 7R13",
    "Intel(R) Xeon(R) Processor (GenuineIntel, cpu family 6, model 207, stepping 2)": (
        "Intel Xeon (family 6, model 207, stepping 2)"
    ),
    "Intel(R) Xeon(R) CPU @ 2.00GHz (GenuineIntel, cpu family 6, model 85, stepping 3)": (
        "Intel Xeon @ 2.00GHz (family 6, model 85, stepping 3)"
    ),
    "Intel(R) Xeon(R) CPU @ 2.80GHz (GenuineIntel, cpu family 6, model 85, stepping 7)": (
        "Intel Xeon @ 2.80GHz (family 6, model 85, stepping 7)"
    ),
    "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz (GenuineIntel, cpu family 6, model 106, stepping 6)": (
        "Intel Xeon Platinum 8370C"
    ),
    "13th Gen Intel(R) Core(TM) i7-13700K (GenuineIntel, cpu family 6, model 183, stepping 1)": (
        "13th Gen Intel Core i7-13700K"
    ),
    "QEMU Virtual CPU version 2.5+ (GenuineIntel, cpu family 6, model 6, stepping 3)": (
        "QEMU Virtual version 2.5+ (family 6, model 6, stepping 3)"
    ),
    "aarch64 (CPU implementer 0x41, CPU part 0xd40)": "aarch64 (implementer 0x41, part 0xd40)",
    "ARMv7 Processor rev 4 (v7l) (CPU implementer 0x41, CPU part 0xd03)": (
        "ARMv7 rev 4 (v7l) (implementer 0x41, part 0xd03)"
    ),
    "Apple M2 Pro": "Apple M2 Pro",
    "Intel(R) Xeon(R) Processor": "Intel Xeon",
    "invented CPU": "invented CPU",
    "Intel64 Family 6 Model 142 Stepping 12, GenuineIntel": "Intel64 Family 6 Model 142 Stepping 12, GenuineIntel",
}


def test_processors_keep_different_names_where_the_system_leaves_the_number_out() -> None:
    assert {full: processor_name(full) for full in NAMES} == NAMES
    assert len(set(NAMES.values())) == len(NAMES)


def test_macos_is_asked_for_the_brand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in for `sysctl` answers on the path."""
    (tmp_path / "sysctl").write_text('#!/bin/sh\ntest "$*" = "-n machdep.cpu.brand_string" && echo "Apple M2 Pro"\n')
    (tmp_path / "sysctl").chmod(0o755)
    monkeypatch.setattr("reproduce.machine.CPUINFO", tmp_path / "absent")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert cpu_name() == "Apple M2 Pro"


def test_other_cores_are_the_busy_time_that_is_not_this_processes() -> None:
    """Within 10 s two cores were busy for 15 s, 9 s of it with this process."""
    start, end = CpuTimes(100.0, 1000.0, 50.0), CpuTimes(110.0, 1015.0, 59.0)
    assert end.other_cores_since(start) == pytest.approx(0.6)
    assert CpuTimes(110.0, 1008.9, 59.0).other_cores_since(start) == 0.0  # ticks are coarse: never negative


def test_a_process_that_computes_makes_the_machine_busy() -> None:
    """The computing process needs a fifth of one core within half a second: any scheduler grants that."""
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        assert LoadWatch().conditions()["busy"] is True
    finally:
        loop.kill()
        loop.wait()


@pytest.mark.parametrize("name", ["ast_debug", "mast_debug", "ast_mbt"])
def test_narrow_weights_give_the_very_results_of_autocast(name: str) -> None:
    torch.manual_seed(0)
    size = (32, 96)
    model = create_model(name, input_size=size, num_classes=5).eval()
    narrow = with_weights_in("bfloat16", model)
    x = torch.randn(2, 1, *size)
    with torch.inference_mode(), computing_in("bfloat16", "cpu"):
        assert torch.equal(narrow(x), model(x))
    assert with_weights_in("bfloat16", narrow) is narrow
    assert with_weights_in("float32", model) is model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {p.dtype for p in narrow.head.parameters()} == {torch.float32}
    sizes = [sum(p.numel() * p.element_size() for p in m.parameters()) for m in (narrow, model)]
    assert sizes[0] < 0.7 * sizes[1]
