"""Ports are free, outside the ephemeral range, and remembered."""

import json
import socket
from pathlib import Path

import pytest

from openvstorage.aio.errors import PortsExhausted
from openvstorage.aio.ports import choose_ports, ephemeral_range

NONE = range(0)


def nobody(name: str) -> bool:
    return False


def test_ephemeral_range_includes_both_ends(tmp_path: Path) -> None:
    file = tmp_path / "range"
    file.write_text("32768\t60999\n")
    ports = ephemeral_range(file)
    assert 32768 in ports
    assert 60999 in ports
    assert 61000 not in ports


def test_ports_lie_outside_the_range_to_avoid(tmp_path: Path) -> None:
    ports, _ = choose_ports(tmp_path / "ports", ["a", "b", "c"], nobody, range(10000, 40000))
    assert all(port >= 40000 for port in ports.values())
    assert len(set(ports.values())) == 3


def test_ports_are_remembered(tmp_path: Path) -> None:
    file = tmp_path / "ports"
    first, _ = choose_ports(file, ["a", "b"], nobody, NONE)
    again, changed = choose_ports(file, ["a", "b"], nobody, NONE)
    assert again == first
    assert changed == []


def test_a_port_taken_by_a_stranger_is_replaced_and_told(tmp_path: Path) -> None:
    file = tmp_path / "ports"
    first, _ = choose_ports(file, ["a", "b"], nobody, NONE)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", first["a"]))
        stranger.listen()
        again, changed = choose_ports(file, ["a", "b"], nobody, NONE)
    assert again["a"] != first["a"]
    assert again["b"] == first["b"]
    assert changed == ["a"]
    assert json.loads(file.read_text()) == again


def test_a_port_taken_by_our_own_program_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "ports"
    first, _ = choose_ports(file, ["a"], nobody, NONE)
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", first["a"]))
        ours.listen()
        again, changed = choose_ports(file, ["a"], lambda name: True, NONE)
    assert again == first
    assert changed == []


def test_no_port_left_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(PortsExhausted, match="no free TCP port between"):
        choose_ports(tmp_path / "ports", ["a"], nobody, range(65536))


def test_clouds_that_come_up_at_once_choose_different_ports(tmp_path: Path) -> None:
    first, _ = choose_ports(tmp_path / "first", ["a", "b"], nobody, NONE)
    second, _ = choose_ports(tmp_path / "second", ["a", "b"], nobody, NONE)
    assert not set(first.values()) & set(second.values())
