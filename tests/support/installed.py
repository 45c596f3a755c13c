"""Environments as users have them: the built wheel, and packages installed beside it from their folders.

What dcbench depends on is not installed a second time: a .pth file lets a new environment see the tests' own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import uv

ROOT = Path(__file__).parents[2]


def run(*command, cwd=None, check=True, **variables):
    """Run a command with one thread, and without anything that this process has set up for its own imports."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DCBENCH"))}
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment | {"OMP_NUM_THREADS": "1"} | variables,
        timeout=600,
    )
    if check and done.returncode:
        raise AssertionError(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return done


@dataclass(frozen=True)
class Environment:
    """A virtual environment with dcbench's wheel in it."""

    folder: Path

    @classmethod
    def create(cls, folder, wheel):
        """Make the environment, and install the wheel."""
        made = cls(folder / "venv")
        run(uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, made.folder)
        here = sysconfig.get_path("purelib")
        site = run(made.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
        Path(site, "tests_own.pth").write_text(f"{here}\n")
        made.install(wheel)
        return made

    @property
    def python(self):
        """The interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def install(self, *packages, target=None):
        """Install packages from files or folders, into the environment or into a folder of their own."""
        where = ["--target", target] if target else []
        quick = ["--quiet", "--offline", "--no-deps", "--no-build-isolation"]
        run(uv.find_uv_bin(), "pip", "install", *quick, "--python", self.python, *where, *packages)

    def dcbench(self, *words, cwd, **variables):
        """Run the installed command in a folder."""
        return run(self.python.with_name("dcbench"), *words, cwd=cwd, check=False, **variables)


def build_wheel(folder):
    """Build dcbench's wheel into a folder; return its path."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel
