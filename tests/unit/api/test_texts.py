"""What no text that is kept may hold: characters that are not seen but make others look like something else."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.asgi import AsgiClient
from tests.unit.api.conftest import GIB, VPOOL, AddVDisk, RecordingOperations

BAD = ["\u202e", "\u202a", "\u2066", "\u2069", "\u200e", "\u200f", "\u061c", "\n", "\x1b", "\x7f", "\x85", "\u2028"]
NOBODY = "00000000-0000-4000-8000-000000000000"

#: Each text that reaches a task, by where it is sent; ``{}`` is where the character goes.
TEXTS: list[tuple[str, dict[str, Any]]] = [
    ("vdisks/", {"name": "a{}b", "size": GIB, "vpool_guid": VPOOL}),
    ("vdisks/", {"name": "ab", "size": GIB, "vpool_guid": VPOOL, "cache_quota": {"a{}b": 1}}),
    ("vdisks/<disk>/clone/", {"name": "a{}b"}),
    ("vdisks/<disk>/clone/", {"name": "ab", "snapshot_id": "a{}b"}),
    ("vdisks/<disk>/create_from_template/", {"name": "a{}b"}),
    ("vdisks/<disk>/create_snapshot/", {"name": "a{}b"}),
    ("vdisks/<disk>/remove_snapshot/", {"snapshot_id": "a{}b"}),
    ("vdisks/<disk>/rollback/", {"timestamp": "a{}b"}),
    ("vdisks/<disk>/rollback/", {"snapshot_id": "a{}b"}),
    ("vdisks/<disk>/is_volume_synced_up_to_snapshot/", {"snapshot_id": "a{}b"}),
    ("vdisks/<disk>/set_config_params/", {"new_config_params": {"a{}b": 1}}),
    ("vdisks/<disk>/set_config_params/", {"new_config_params": {"dtl_mode": "a{}b"}}),
    (f"vpools/{VPOOL}/create_snapshots/", {"vdisk_guids": [NOBODY], "name": "a{}b"}),
    (f"vpools/{VPOOL}/create_snapshots/", {"vdisk_guids": ["a{}b"], "name": "s"}),
    (f"vpools/{VPOOL}/remove_snapshots/", {"snapshot_mapping": {"a{}b": NOBODY}}),
    (f"vpools/{VPOOL}/remove_snapshots/", {"snapshot_mapping": {NOBODY: ["a{}b"]}}),
    ("grants/", {"vdisk_guid": "<disk>", "client": "a{}b", "consumer": "c", "mode": "rw"}),
    ("grants/", {"vdisk_guid": "<disk>", "client": "h", "consumer": "a{}b", "mode": "rw"}),
]


def put(value: Any, character: str, disk: str) -> Any:
    """Give a value with the character in its place."""
    if isinstance(value, dict):
        return {put(key, character, disk): put(item, character, disk) for key, item in value.items()}
    if isinstance(value, list):
        return [put(item, character, disk) for item in value]
    return value.replace("{}", character).replace("<disk>", disk) if isinstance(value, str) else value


@pytest.mark.parametrize(("path", "body"), TEXTS)
async def test_no_task_keeps_it(
    client: AsgiClient, add_vdisk: AddVDisk, operations: RecordingOperations, path: str, body: dict[str, Any]
) -> None:
    disk = (await add_vdisk("disk")).guid
    for character in BAD:
        sent = put(body, character, disk)
        answer = await client("POST", "/api/" + path.replace("<disk>", disk), json_body=sent)
        assert (answer.status, answer.json()["error"]) == (406, "invalid_data"), repr(character)
        assert f"U+{ord(character):04X}" in answer.json()["error_description"]
        assert character not in answer.body.decode()
    assert operations.submitted == []


@pytest.mark.parametrize("text", ["Größe", "日本語", "דיסק", "قرص", "می\u200cخواهم", "👩\u200d💻", "a b"])
async def test_every_script_is_welcome(
    client: AsgiClient, add_vdisk: AddVDisk, operations: RecordingOperations, text: str
) -> None:
    disk = (await add_vdisk("disk")).guid
    answer = await client("POST", f"/api/vdisks/{disk}/create_snapshot/", json_body={"name": text})
    assert answer.status == 200
    assert operations.submitted[0][1]["label"] == text
