"""Run tests in an environment that has Cinder, our wheel and nothing else of ours.

    python tests/support/cinder_env.py [29] [pytest arguments]

The environment is made of a lock with hashes and kept in ``.tools``; the wheel is built and installed anew each time. A
shared environment would hide an import that a Cinder host cannot satisfy.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"


def main(arguments: list[str]) -> int:
    """Give pytest's exit status."""
    release = arguments.pop(0) if arguments and arguments[0].isdigit() else "29"
    python = ensure(release)
    install_wheel(python, release)
    tests = arguments if any(not argument.startswith("-") for argument in arguments) else ["tests/cinder", *arguments]
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning", *tests]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, check=False).returncode


def ensure(release: str) -> Path:
    """Make the environment, or bring it up to its lock, and give its Python."""
    environment, lock = TOOLS / f"cinder-{release}", ROOT / "tests" / "support" / f"cinder-{release}.lock"
    python, stamp = environment / "bin" / "python", environment / "lock.sha256"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        uv("venv", "--quiet", "--clear", "--python", "3.11", str(environment))
        uv("pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(lock))
        stamp.write_text(digest)
    return python


def install_wheel(python: Path, release: str) -> None:
    """Build our wheel and install it without its extras, and without anything that the lock does not have."""
    target = TOOLS / f"wheel-cinder-{release}"
    shutil.rmtree(target, ignore_errors=True)
    uv("build", "--quiet", "--wheel", "--out-dir", str(target), str(ROOT))
    (wheel,) = target.glob("*.whl")
    uv("pip", "install", "--quiet", "--no-deps", "--reinstall", "--python", str(python), str(wheel))
    uv("pip", "check", "--quiet", "--python", str(python))


def uv(*arguments: str) -> None:
    """Run uv, the one of the development environment before any other."""
    beside = Path(sys.executable).with_name("uv")
    program = str(beside) if beside.exists() else shutil.which("uv")
    if program is None:
        raise SystemExit("uv is missing: run make install first")
    subprocess.run([program, *arguments], check=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
