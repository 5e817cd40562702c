"""What the tour makes of a guest's console and of the bytes it finds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openvstorage.aio import image
from openvstorage.aio.errors import EvidenceMismatch
from openvstorage.aio.tour_instance import Console, InstanceSteps, processes_of, storage_daemons

SAID = "OPENVSTORAGE GUEST BOOTED kernel 6.1\r\nGUEST ACKNOWLEDGES 10\r\nGUEST ACKNOWLEDGES 20\r\nGUEST ACKNOWL"


class Bytes:
    """An edge whose vDisks all hold the same."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def get(self, vdisk: str, offset: int, length: int) -> bytes:
        return self._content[offset : offset + length]


def steps(content: bytes) -> InstanceSteps:
    nowhere = Path("/nonexistent")
    return InstanceSteps(
        None,  # type: ignore[arg-type]
        Bytes(content),  # type: ignore[arg-type]
        nowhere,
        "type",
        instances=nowhere,
        compute_log=nowhere,
        libvirt_version="9.0.0",
    )


def console(tmp_path: Path, text: str) -> Console:
    (tmp_path / "console.log").write_text(text)
    return Console(tmp_path / "console.log")


def test_a_guest_that_has_not_started_has_said_nothing(tmp_path: Path) -> None:
    assert Console(tmp_path / "absent").text() == ""
    assert Console(tmp_path / "absent").acknowledged() == 0


def test_only_whole_lines_count_as_acknowledged(tmp_path: Path) -> None:
    assert console(tmp_path, SAID).acknowledged() == 20
    assert console(tmp_path, SAID + "EDGES 3").acknowledged() == 20


def test_a_line_is_waited_for_and_its_part_given(tmp_path: Path) -> None:
    assert console(tmp_path, SAID).wait(rf"^{image.BOOT_LINE} kernel (\S+)$") == "6.1"


@pytest.mark.parametrize(
    "line", ["[    4.2] I/O error, dev vdb, sector 2048 op 0x1:(WRITE)", "GUEST ERROR with number 7"]
)
def test_errors_of_kernel_and_order_are_seen(tmp_path: Path, line: str) -> None:
    assert console(tmp_path, SAID).errors() == []
    assert console(tmp_path, f"{SAID}\r\n{line}\r\n").errors() == [line]


def test_one_lost_number_is_noticed() -> None:
    written = bytearray(bytes(16 * 1024**2 + 512) + b"".join(b"%-512d" % n for n in range(1, 31)))
    assert "30 numbers" in steps(bytes(written))._compare_numbers("the volume", "vdisk", 30)
    written[-512:] = bytes(512)
    with pytest.raises(EvidenceMismatch, match=r"found \[30\]"):
        steps(bytes(written))._compare_numbers("the volume", "vdisk", 30)


def test_one_wrong_byte_of_the_text_is_noticed() -> None:
    wanted = steps(b"")
    line = f"{wanted._text}\n".encode()
    content = bytearray(bytes(1024**2) + (line * (1024**2 // len(line) + 1))[: 1024**2])
    wanted._edge = Bytes(bytes(content))  # type: ignore[assignment]
    assert "as the guest was told" in wanted._compare_text("the volume", "vdisk")
    content[-1] ^= 1
    wanted._edge = Bytes(bytes(content))  # type: ignore[assignment]
    with pytest.raises(EvidenceMismatch):
        wanted._compare_text("the volume", "vdisk")


def test_processes_are_found_by_what_they_serve(tmp_path: Path) -> None:
    daemon = tmp_path / "qemu-storage-daemon"
    daemon.symlink_to(sys.executable)
    words = [str(daemon), "-c", "print(flush=True), input()", "vdisk=1234-abcd"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, **pipes, env={**os.environ, "PYTHONHOME": sys.base_prefix}) as process:
        assert process.stdout is not None
        process.stdout.readline()  # right after its start a process has no command line yet
        assert storage_daemons("1234-abcd") == [process.pid]
        assert processes_of("1234-abcd") == []
        process.communicate(b"\n")
