"""Whether KVM is used follows from a guest that boots with it, and is remembered for the machine."""

import json
from pathlib import Path

import pytest

from openvstorage.aio import acceleration
from openvstorage.aio.acceleration import Acceleration, choose, probe


def test_without_the_device_guests_are_interpreted(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    assert probe(tmp_path / "image", device) == Acceleration("qemu", f"there is no {device}")


def test_the_outcome_is_remembered_until_the_machine_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceleration, "_KVM", tmp_path / "kvm")
    file, image = tmp_path / "acceleration.json", tmp_path / "image"
    assert choose(file, image).virt_type == "qemu"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({**known, "virt_type": "kvm", "reason": "remembered"}))
    assert choose(file, image) == Acceleration("kvm", "remembered")
    file.write_text(json.dumps({**json.loads(file.read_text()), "machine": "another"}))
    assert choose(file, image).virt_type == "qemu"
