from __future__ import annotations

import json
from pathlib import Path

import pytest

from openvstorage.vpool.exports import command
from openvstorage.vpool.exports.command import Export
from openvstorage.vpool.exports.limits import Limits
from openvstorage.vpool.exports.run_files import RunFiles
from openvstorage.vpool.exports.tls import ServerTls, certificate_of

_NODE = {"driver": "null-co", "node-name": "n"}


def _arguments(files: RunFiles, **options) -> list[str]:
    given = {
        "group": "tg-v-1",
        "limits": Limits(),
        "blockdevs": [_NODE, command.top_options("tg-v-1", "n", read_only=False)],
        "server_fds": [7],
        "exports": [Export("e", True)],
        **options,
    }
    return command.arguments(files, **given)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "a\n", "x" * 201, 'a"', "a,b"])
def test_export_names_that_qemu_or_a_shell_could_take_for_more_are_refused(name):
    with pytest.raises(ValueError, match="export name"):
        Export(name, True)


@pytest.mark.parametrize("export", [Export("e-1.x_Y", True), Export("rw-e", False), Export("e", False, "n")])
def test_an_export_is_read_back_from_its_id(export):
    assert Export.from_qmp({"id": export.id, "node-name": export.node}) == export


@pytest.mark.parametrize("export_id", ["probe", "xx-e", "rw-", "rw-a b"])
def test_somebody_elses_export_is_not_ours(export_id):
    assert Export.from_qmp({"id": export_id, "node-name": "top"}) is None


def test_the_exports_come_after_the_server_and_the_nodes_before():
    words = _arguments(RunFiles.of(Path("/r"), "v", 1))
    options = [word for word in words if word.startswith("--")]
    assert options == [
        "--chardev",
        "--monitor",
        "--pidfile",
        "--object",
        *["--blockdev"] * 2,
        "--nbd-server",
        "--export",
    ]


def test_a_private_daemon_has_no_server():
    words = _arguments(RunFiles.of(Path("/r"), "v", 1), server_fds=[], exports=[])
    assert "--nbd-server" not in words


def test_a_comma_in_the_run_directory_does_not_end_the_path():
    words = _arguments(RunFiles.of(Path("/r,id=x"), "v", 1))
    assert "path=/r,,id=x/" in words[1]


def test_no_export_uses_an_iothread():
    words = _arguments(RunFiles.of(Path("/r"), "v", 1))
    assert "iothread" not in json.loads(words[words.index("--export") + 1])


def test_a_directory_too_long_for_a_socket_is_refused():
    fits = Path("/" + "d" * 85)
    assert len(bytes(RunFiles.of(fits, "v", 1).monitor)) == 107
    with pytest.raises(ValueError, match="shorter"):
        RunFiles.of(fits / "x", "v", 1)


def test_vdisk_and_epoch_make_the_file_names():
    names = {RunFiles.of(Path("/r"), vdisk, epoch).monitor for vdisk in ("a", "b") for epoch in (1, 2)}
    assert len(names) == 4


def test_with_tls_a_daemon_lets_nobody_in_who_is_not_named():
    words = _arguments(
        RunFiles.of(Path("/r"), "v", 1), tls=ServerTls(Path("/t,x"), "ab12"), admitted=["O=o,CN=b", "O=o,CN=a"]
    )
    objects = {
        made["id"]: made for made in (json.loads(words[at + 1]) for at, word in enumerate(words) if word == "--object")
    }
    server = json.loads(words[words.index("--nbd-server") + 1])
    credentials, admitted = objects[server["tls-creds"]], objects[server["tls-authz"]]
    assert credentials["verify-peer"] is True
    assert credentials["dir"] == "/t,x"
    assert admitted["policy"] == "deny"
    assert [(rule["match"], rule["policy"], rule["format"]) for rule in admitted["rules"]] == [
        ("O=o,CN=a", "allow", "exact"),
        ("O=o,CN=b", "allow", "exact"),
    ]
    # QEMU makes its objects in this order, and a list that is not there yet would be an error
    assert max(at for at, word in enumerate(words) if word == "--object") < words.index("--nbd-server")


def test_a_daemon_tells_its_certificate_by_its_objects():
    names = [made["id"] for made in ServerTls(Path("/t"), "ab12").objects([])]
    assert certificate_of(["tg-v-1", *names]) == "ab12"
    assert certificate_of(["tg-v-1", "type"]) is None
