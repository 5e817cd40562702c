"""qemu-img: formats are never guessed and names are never read as something else."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.functional.edge.conftest import SIZE, Server

from openvstorage.edge import qemu_img
from openvstorage.edge.errors import QemuImgFailed
from openvstorage.edge.location import NbdLocation

Start = Callable[..., Server]


@pytest.fixture
def qcow2(tmp_path: Path) -> Path:
    raw = tmp_path / "source.raw"
    raw.write_bytes(random.Random(4).randbytes(3_000_000) + bytes(10_000_000))
    target = tmp_path / "source.qcow2"
    qemu_img.convert(raw, target, source_format="raw", target_format="qcow2")
    return target


def test_convert_into_an_export_and_compare(start: Start, qcow2: Path) -> None:
    server = start()
    export = NbdLocation(server.host, server.port, server.export)
    assert not qemu_img.compare(qcow2, export, first_format="qcow2", second_format="raw")
    options = {"source_format": "qcow2", "target_format": "raw", "create": False, "target_is_zero": True}
    qemu_img.convert(qcow2, export, **options)  # type: ignore[arg-type]
    assert qemu_img.compare(qcow2, export, first_format="qcow2", second_format="raw")
    assert qemu_img.info(export, image_format="raw")["virtual-size"] == SIZE


def test_a_header_that_a_guest_wrote_is_not_believed(tmp_path: Path, qcow2: Path) -> None:
    info = qemu_img.info(qcow2, image_format="raw")
    assert info["format"] == "raw"
    assert info["virtual-size"] == qcow2.stat().st_size


def test_a_path_is_never_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = Path('json:{"driver":"null-co"}')
    with pytest.raises(QemuImgFailed, match="No such file"):
        qemu_img.info(name, image_format="raw")
    name.write_bytes(bytes(1024 * 1024))
    assert qemu_img.info(name, image_format="raw")["virtual-size"] == 1024 * 1024


def test_failures_carry_the_words_of_qemu_img(tmp_path: Path) -> None:
    with pytest.raises(QemuImgFailed, match=r"compare failed with status 2.*missing"):
        qemu_img.compare(tmp_path / "missing", tmp_path, first_format="raw", second_format="raw")


def test_tls_is_not_dropped_on_the_way(tmp_path: Path) -> None:
    with pytest.raises(QemuImgFailed, match="No TLS credentials"):
        qemu_img.info(NbdLocation("127.0.0.1", 1, "x", tls=True), image_format="raw")


def test_missing_program_and_endless_run_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "qemu-img"
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(QemuImgFailed, match=r"no end after 0\.2 s"):
        qemu_img.info(tmp_path, image_format="raw", timeout=0.2)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(QemuImgFailed, match="not installed"):
        qemu_img.info(tmp_path, image_format="raw")


def test_luks_header_survives_a_host_too_busy_to_measure_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU then says so and fails; here twice, before the real program is run."""
    fake = tmp_path / "qemu-img"
    real = shutil.which("qemu-img")
    first_two = f"mkdir {tmp_path}/1 || mkdir {tmp_path}/2"
    words = "echo Unable to get accurate CPU usage >&2; exit 1"
    fake.write_text(f'#!/bin/sh\n{first_two} || exec {real} "$@"\n{words}\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    passphrase, header = tmp_path / "pass", tmp_path / "header.luks"
    passphrase.write_text("secret")
    cipher = qemu_img.LuksCipher("aes-256", "xts", "plain64")
    qemu_img.create_luks_header(header, cipher=cipher, passphrase_file=passphrase)
    assert header.read_bytes()[:6] == b"LUKS\xba\xbe"
    with pytest.raises(QemuImgFailed, match="cipher"):
        qemu_img.create_luks_header(
            header, cipher=qemu_img.LuksCipher("rot-13", "xts", "plain64"), passphrase_file=passphrase
        )
