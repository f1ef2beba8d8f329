"""What is released: a wheel and an sdist with everything in them, from which commands start in an empty environment."""

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("fedmq", "fedmq_nodes", "fedmq_models", "fedmq_bench")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build an sdist from the checkout, and a wheel from the sdist, as a release does."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    (found,) = folder.glob("*.whl")
    return found


def run(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    tracked = run("git", "ls-files", "runtime", "nodes", "models", "benchmarks", cwd=ROOT).splitlines()
    wanted = {file.split("/", 1)[1] for file in tracked if file.split("/")[1] in PACKAGES}
    assert len(wanted) > 150
    assert wanted - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_the_sdist_has_the_tests_the_documentation_and_the_licence(wheel: Path) -> None:
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        names = {name.split("/", 1)[-1] for name in tar.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "docs/wire-format.md", "tests/test_walk.py"} <= names


def test_an_installed_wheel_runs_its_commands_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv"))
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(site)
    # What it depends on is here already; that this checkout is installed there is not seen through a path file.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    version = wheel.name.split("-")[1]
    # -I keeps the folder of the checkout, and PYTHONPATH, out of the path.
    assert version in run(str(python), "-I", "-m", "fedmq", "--version", cwd=tmp_path)
    where = run(str(python), "-I", "-c", "import fedmq, fedmq_nodes; print(fedmq.__file__, fedmq_nodes.__file__)")
    assert str(ROOT) not in where
