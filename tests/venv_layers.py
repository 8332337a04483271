"""Environments as layers over the running one: a venv that sees its packages, and into which pip installs without
network. The one torch is shared; what is editable in the running environment is not seen, as its .pth files are read
from no path that another .pth file names.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


class VenvLayer:
    """place: an empty folder, for the venv. wheels: where its pip finds packages; it asks no index."""

    def __init__(self, place: Path, wheels: Path) -> None:
        if importlib.util.find_spec("pip") is None:
            pytest.skip("needs pip in the running environment")
        venv.create(place, symlinks=os.name != "nt", with_pip=False)
        paths = sysconfig.get_paths(vars={"base": str(place), "platbase": str(place)})
        self.site = Path(paths["purelib"])
        below = dict.fromkeys(sysconfig.get_paths()[kind] for kind in ("purelib", "platlib"))
        (self.site / "below.pth").write_text("".join(f"{path}\n" for path in below))
        self.interpreter = Path(paths["scripts"]) / Path(sys.executable).name
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        self.environment = kept | {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *arguments: str | Path, cwd: Path, code: int = 0) -> str:
        """What the layer's Python prints, run in `cwd`; it must end with exit code `code` and no traceback."""
        done = subprocess.run(
            [self.interpreter, *arguments], cwd=cwd, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def install(self, *wheels: Path) -> None:
        """One after the other, as a person types them; no dependencies, which are there already."""
        options = ("--quiet", "--no-deps", "--no-compile", "--force-reinstall")  # the same versions lie below
        for wheel in wheels:
            self.run("-m", "pip", "install", *options, wheel, cwd=wheel.parent)


def build_distribution(target: str, out: Path, source: Path = ROOT) -> Path:
    """The wheel or sdist (`target`) of the project in `source`, by the backend that pip and `build` call."""
    pytest.importorskip("hatchling", reason="needs hatchling: pip install -e '.[test]'")
    out.mkdir(parents=True, exist_ok=True)
    code = f"import hatchling.build, sys; print(hatchling.build.build_{target}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, out], cwd=source, capture_output=True, text=True, check=True)
    return out / done.stdout.split()[-1]


def repack(name: str, out: Path, instead: dict[str, str] | None = None) -> Path:
    """An installed package as a wheel again. instead: path -> text, for files that were laid over its own."""
    package = distribution(name)
    info = f"{name}-{package.version}.dist-info"
    out.mkdir(parents=True, exist_ok=True)
    wheel = out / f"{name}-{package.version}-py3-none-any.whl"
    left_out = {f"{info}/{each}" for each in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")}
    with zipfile.ZipFile(wheel, "w") as archive:
        paths = [path for path in package.files or [] if path.suffix != ".pyc" and path.as_posix() not in left_out]
        for path in paths:
            archive.writestr(path.as_posix(), (instead or {}).get(path.as_posix()) or path.locate().read_bytes())
        lines = [f"{path.as_posix()},,\n" for path in paths]
        archive.writestr(f"{info}/RECORD", "".join(lines) + f"{info}/RECORD,,\n")
    return wheel
