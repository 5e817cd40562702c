"""The report is complete after every step."""

import json
from pathlib import Path

from openvstorage.aio.report import Report, StepReport


def test_the_file_holds_all_steps_so_far(tmp_path: Path) -> None:
    report = Report(tmp_path / "var" / "demo.json")
    assert not report.ok
    report.add(StepReport("create", "volume create", 1.5, True, "a vDisk"))
    assert report.ok
    report.add(StepReport("delete", "volume delete", 0.5, False, "it is still there"))
    assert not report.ok
    assert json.loads(report.file.read_text()) == [
        {"name": "create", "command": "volume create", "seconds": 1.5, "ok": True, "evidence": "a vDisk"},
        {"name": "delete", "command": "volume delete", "seconds": 0.5, "ok": False, "evidence": "it is still there"},
    ]
