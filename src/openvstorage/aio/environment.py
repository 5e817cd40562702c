"""Environment: the Python environment OpenStack runs in, from a lock with hashes, and this project's wheel in it.

It holds the base of the wheel only, as an operator's Cinder does: the vPool service has an environment of its own, so
that neither can lean on what the other happens to install.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import openvstorage
from openvstorage.aio.command import network_environment, run
from openvstorage.aio.errors import BindingsUnusable, CommandFailed, SourceMissing
from openvstorage.aio.paths import Paths

__all__ = ["LOCK", "Environment"]

LOCK = Path(__file__).with_name("openstack-2026.2.lock")
# The distributions of the lock that are published as source only; none needs a compiler.
_SOURCE_ONLY = ("ovs", "simplegeneric")
_DEBIAN_MODULES = Path("/usr/lib/python3/dist-packages")


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class Environment:
    """The OpenStack environment of one all-in-one.

    :param paths: where it is (``paths.venv``) and where downloads are cached.
    :param wheel: this project's wheel; built from the source tree that this code runs from unless given.
    """

    def __init__(self, paths: Paths, wheel: Path | None = None) -> None:
        self._paths = paths
        self._wheel = wheel
        self._log = paths.log / "environment.log"

    @property
    def openstack_version(self) -> str:
        """A text that changes when OpenStack does."""
        return self._read("lock")

    @property
    def version(self) -> str:
        """A text that changes when OpenStack or this project's wheel in it does."""
        return f"{self._read('lock')} {self._read('wheel')}"

    @property
    def complete(self) -> bool:
        """Whether everything of the lock is installed; our wheel may still be out of date."""
        return self._read("lock") == _digest(LOCK)

    def program(self, name: str) -> str:
        """Return the path of a command of the environment."""
        return str(self._paths.venv / "bin" / name)

    def install(self) -> str:
        """Make the environment or bring it up to date; blocks. Returns a word about what was done.

        Raises CommandFailed when a download or an installation fails, SourceMissing when there is no wheel to install.
        """
        did = []
        if not self.complete:
            self._install_lock()
            did.append("OpenStack installed")
        wheel, digest = self._wheel_and_digest()
        if self._read("wheel") != digest:
            self._install_wheel(wheel)
            self._write("wheel", digest)
            did.append("this project's wheel installed")
        return ", ".join(did) or "up to date"

    def link_modules(self, *names: str) -> None:
        """Make modules of Debian's Python importable here: those that belong to a library which Debian has, too.

        Raises BindingsUnusable when the environment's interpreter cannot load them.
        """
        (target,) = self._paths.venv.glob("lib/python3*/site-packages")
        for path in (path for name in names for path in _DEBIAN_MODULES.glob(f"{name}.*")):
            link = target / path.name
            # A program may be loading it.
            if not link.is_symlink():
                link.symlink_to(path)
        check = [self.program("python"), "-c", f"import {', '.join(names)}"]
        try:
            run("the loading of Debian's Python modules", check, self._log)
        except CommandFailed as error:
            raise BindingsUnusable(names=", ".join(names), python=self._interpreter, log=self._log) from error

    @property
    def _interpreter(self) -> Path:
        # The interpreter below our own environment: the two share no packages.
        return Path(getattr(sys, "_base_executable", sys.executable))

    def _install_lock(self) -> None:
        if self._paths.venv.exists():
            shutil.rmtree(self._paths.venv)
        self._uv(
            "the making of OpenStack's Python environment", "venv", "--python", self._interpreter, self._paths.venv
        )
        self._uv(
            "the installation of OpenStack from PyPI",
            *("pip", "install", "--python", self.program("python"), "--require-hashes", "--requirements", LOCK),
            *("--only-binary", ":all:", *(word for name in _SOURCE_ONLY for word in ("--no-binary", name))),
        )
        self._write("lock", _digest(LOCK))

    def _install_wheel(self, wheel: Path | None) -> None:
        if wheel is None:
            source = self._source()
            dist = self._paths.state / "dist"
            shutil.rmtree(dist, ignore_errors=True)
            self._uv("the building of this project's wheel", "build", "--wheel", "--out-dir", dist, source)
            wheel = next(dist.glob("*.whl"))
        # Its one requirement stands in the lock; nothing may move what the lock pins.
        self._uv(
            "the installation of this project's wheel",
            *("pip", "install", "--python", self.program("python"), "--no-deps", "--reinstall", wheel),
        )
        self._uv("the check of OpenStack's environment", "pip", "check", "--python", self.program("python"))

    def _wheel_and_digest(self) -> tuple[Path | None, str]:
        if self._wheel is not None:
            return self._wheel, _digest(self._wheel)
        source = self._source()
        files = sorted(path for path in (source / "src").rglob("*") if path.is_file() and path.suffix != ".pyc")
        return None, _digest(source / "pyproject.toml", *files)

    def _source(self) -> Path:
        source = Path(openvstorage.__file__).parents[2]
        if not (source / "pyproject.toml").is_file():
            raise SourceMissing(path=source)
        return source

    def _uv(self, what: str, *words: str | Path) -> None:
        environment = {
            **network_environment(),
            "UV_CACHE_DIR": str(self._paths.cache / "uv"),
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        }
        # The caller's environment is not the one that is meant.
        environment.pop("VIRTUAL_ENV", None)
        run(what, [sys.executable, "-m", "uv", *words], self._log, environment=environment)

    def _read(self, name: str) -> str:
        marker = self._marker(name)
        return marker.read_text() if marker.exists() else ""

    def _write(self, name: str, text: str) -> None:
        self._marker(name).write_text(text)

    def _marker(self, name: str) -> Path:
        return self._paths.venv / f".openvstorage-{name}"
