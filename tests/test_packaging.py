"""What is installed: dependencies and their floors, commands, types, the sdist and the wheel, and the container."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

from reproduce.records.store import default_records

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("models", "reproduce", "bench", "reports")
CORE = [
    "torch",
    "torchaudio",
    "timm",
    "ptflops",
    "fvcore",
    "pandas",
    "matplotlib",
    "umap-learn",
    "scikit-learn",
    "pytest",
    "pytest-benchmark",
]
LEFT_OUT = ("__pycache__", ".*_cache", ".git", ".tox", ".venv", ".hypothesis", "build", "dist", "runs", "*.egg-info")


def floors() -> dict[str, str]:
    """Requirement -> lowest version, of the core and of `dev` with what it includes."""
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    found = (re.match(r"([\w-]+)>=([\w.]+)", line) for line in lines)
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match}


def run_in(folder: Path, *arguments: str, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Python in `folder`, with the packages under `path`."""
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


# --- metadata -------------------------------------------------------------------------------------------------------


def test_the_packages_that_this_project_is_built_on_are_core_dependencies() -> None:
    names = {re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]}  # type: ignore[index]
    assert set(CORE) <= names


def test_every_floor_is_the_version_that_the_oldest_environment_tests() -> None:
    text = (ROOT / "tests/oldest.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", text, re.MULTILINE))

    def release(version: str) -> str:
        return re.sub(r"(\.0)+$", "", version)

    assert {name: release(pinned[name]) for name in floors()} == {n: release(v) for n, v in floors().items()}


def test_console_scripts_lead_to_functions() -> None:
    assert set(PROJECT["scripts"]) == {"mast-vs-ast", "mast-vs-ast-report"}
    for target in PROJECT["scripts"].values():
        module, _, function = target.partition(":")
        assert callable(getattr(import_module(module), function))


def test_every_package_says_that_it_is_typed() -> None:
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_the_workflow_runs_environments_that_tox_has() -> None:
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    known = {section.partition(":")[2] for section in tox.sections()}
    workflow = (ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    named = {name for line in re.findall(r'environments: "([^"]+)"', workflow) for name in line.split(",")}
    assert {"test", "oldest", "docs"} <= named
    assert all(name in known or re.fullmatch(r"py31[123]", name) for name in named)
    assert [name.strip() for name in tox["tox"]["env_list"].split(",")] == ["lint", "test"]  # what CI has time for


# --- any folder -----------------------------------------------------------------------------------------------------


def test_records_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_records() == ROOT / "reports/records"
    (tmp_path / "reports/records").mkdir(parents=True)
    assert default_records() == Path("reports/records")


def test_a_foreign_models_package_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/__init__.py").touch()
    done = run_in(tmp_path, "-m", "reproduce", "table5")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert str(tmp_path / "models") in line and "type `mast-vs-ast`" in line
    # The console script does not look in the working folder.
    script = "import sys; sys.path.remove(''); from reproduce.__main__ import main; sys.exit(main(['table5']))"
    assert run_in(tmp_path, "-c", script).returncode == 0


def test_a_foreign_reports_package_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/__init__.py").touch()
    done = run_in(tmp_path, "-m", "reproduce", "list")
    assert done.returncode == 0
    assert "type `mast-vs-ast-report` here" in done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_shell_completes_commands_options_and_choices() -> None:
    script = run_in(ROOT, "-m", "reproduce", "--completion", "bash")
    assert script.returncode == 0

    def offered(words: str) -> str:
        call = f"COMP_WORDS=(mast-vs-ast {words}); COMP_CWORD={len(words.split())}; _shtab_mast_vs_ast"
        bash = ["bash", "--norc", "-c", f'{script.stdout}\n{call}\necho "${{COMPREPLY[*]}}"']
        return subprocess.run(bash, capture_output=True, text=True).stdout.strip()

    assert offered("tab") == "table1 table2 table3 table4 table5 table6"
    assert offered("data st") == "standin stats"
    assert offered("table5 --format la") == "latex"


# --- sdist, wheel, container ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist, unpacked as `sdist`, and the wheel that was built from it, unpacked as `wheel`."""
    pytest.importorskip("setuptools", reason="builds with setuptools")
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*LEFT_OUT))
    code = "import sys; from setuptools import build_meta as b; getattr(b, 'build_' + sys.argv[1])(sys.argv[2])"
    made = run_in(folder / "source", "-c", code, "sdist", str(folder))
    assert made.returncode == 0, made.stderr
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.0 to 3.11.3 have no filters
        tar.extractall(folder)
    (folder / archive.name.removesuffix(".tar.gz")).rename(folder / "sdist")
    made = run_in(folder / "sdist", "-c", code, "wheel", str(folder))
    assert made.returncode == 0, made.stderr
    (archive,) = folder.glob("*.whl")
    with zipfile.ZipFile(archive) as wheel:
        wheel.extractall(folder / "wheel")
    return folder


def test_the_sdist_has_what_the_tests_read(built: Path) -> None:
    folders = (*PACKAGES, "tests", "docs", "reports/records", ".ci", ".github")
    kept = shutil.ignore_patterns(*LEFT_OUT)
    for folder in folders:
        for place, names, files in os.walk(ROOT / folder):
            skipped = kept(place, [*names, *files])
            names[:] = set(names) - skipped
            lacking = [
                name
                for name in set(files) - skipped
                if not (built / "sdist" / Path(place).relative_to(ROOT) / name).is_file()
                and Path(name).suffix not in (".pyc", ".torn")
                and name != ".lock"
            ]
            assert lacking == [], place
    done = run_in(built / "sdist", "-m", "pytest", "-q", "tests/test_paper.py", path=built / "sdist")
    assert done.returncode == 0, done.stdout


def test_the_wheel_predicts_with_the_demo_and_prints_tables(built: Path, tmp_path: Path) -> None:
    wheel = built / "wheel"
    assert {path.name for path in wheel.iterdir() if path.suffix != ".dist-info"} == set(PACKAGES)
    (sound,) = (wheel / "reproduce/demo").glob("*.ogg")
    done = run_in(tmp_path, "-m", "reproduce", "predict", str(sound), "--model", "demo", path=wheel)
    assert done.returncode == 0, done.stderr
    assert sound.stem in done.stdout
    assert (wheel / "reports/templates/report.md.j2").is_file()
    assert (wheel / "models/py.typed").is_file()


def test_the_dockerfile_copies_what_exists() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert copied
    assert all((ROOT / source).exists() for line in copied for source in line.split())


def test_the_container_prints_a_table() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True).returncode:
        pytest.skip("needs docker with a running engine")
    subprocess.run([docker, "build", "--tag", "mast-vs-ast-test", "."], cwd=ROOT, check=True)
    done = subprocess.run([docker, "run", "--rm", "mast-vs-ast-test", "table5"], capture_output=True, text=True)
    assert "AST : MAST" in done.stdout, done.stderr
