"""Environments that have one OpenStack project, our wheel and nothing else of ours.

A shared environment would hide an import that a real host cannot satisfy. Each is made of a lock with hashes and kept
in ``.tools``; the wheel is built and installed anew each time.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"


def ensure(name: str) -> Path:
    """Make the environment of ``tests/support/<name>.lock``, or bring it up to its lock, and give its Python."""
    environment, lock = TOOLS / name, ROOT / "tests" / "support" / f"{name}.lock"
    python, stamp = environment / "bin" / "python", environment / "lock.sha256"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        uv("venv", "--quiet", "--clear", "--python", "3.11", str(environment))
        uv("pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(lock))
        stamp.write_text(digest)
    return python


def install_wheel(python: Path, name: str) -> None:
    """Build our wheel and install it without its extras, and without anything that the lock does not have."""
    target = TOOLS / f"wheel-{name}"
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
