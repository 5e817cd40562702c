"""Symbolic links in and around a data directory: what they lead to is not ours to change, and nothing is guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.audit import audit, calm
from tests.support.crash_acts import disk, first, snapped, vdisk, written
from tests.support.crash_world import Disk, World, fits, look
from tests.support.engine import TaskFailed, engine
from tests.support.vpool_service import VpoolService

from openvstorage.vpool.model.layer import Layer
from openvstorage.vpool.model.vdisk import VDisk

pytestmark = [pytest.mark.crash]

SECRET = b"of somebody else\n" * 100


def test_links_to_the_directory_and_to_its_configuration_are_followed_and_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "config.json").write_text(json.dumps({"low_water_mib": 77}))
    (tmp_path / "real" / "config.json").symlink_to(tmp_path / "config.json")
    with VpoolService(tmp_path / "link") as service:
        assert service.status["healthy"]
        assert (tmp_path / "real" / "layers").is_dir()
    assert (tmp_path / "real" / "config.json").is_symlink()
    kept = json.loads((tmp_path / "config.json").read_text())
    assert (kept["low_water_mib"], kept["token_calls"]) == (77, 0), "what was given is kept where it was read"


@pytest.mark.parametrize("of", ["head", "snapshot"])
async def test_a_link_in_the_place_of_a_layer_is_neither_followed_nor_changed(
    data: Path, tmp_path: Path, of: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o640)
    async with engine(data) as vpool:
        await first(disk("a", "A..."), snapped("a", "s"), written("a", 1, "B"), disk("b", "B..."))(vpool)
        await calm(vpool)
        async with vpool.db.read() as session:
            head = await session.get_one(Layer, (await session.get_one(VDisk, await vdisk(vpool, "a"))).backend_ref)
        path = vpool.context.backend.files.path(head.guid if of == "head" else str(head.parent_guid))
    aside = tmp_path / "aside"
    path.rename(aside)
    path.symlink_to(secret)
    async with engine(data) as vpool:
        await calm(vpool)
        a = await vdisk(vpool, "a")
        with pytest.raises(TaskFailed, match=r"is not a file, but a link or a directory: put the layer's file back"):
            await vpool.grant(a, "guest")
        await written("b", 1, "C")(vpool)
        assert (secret.read_bytes(), secret.stat().st_mode & 0o777) == (SECRET, 0o640)
    path.unlink()
    aside.rename(path)
    async with engine(data) as vpool:
        await calm(vpool)
        await audit(vpool)
        world = World({"a": Disk("AB..", {"s": "A..."}), "b": Disk("BC..")})
        assert fits(await look(vpool), world, wrote=False)
        await vpool.do("vdisk.delete", await vdisk(vpool, "a"))


async def test_a_link_that_is_not_a_layer_is_set_aside_as_it_is(data: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    async with engine(data):
        pass
    (data / "layers" / "unknown.qcow2").symlink_to(secret)
    async with engine(data):
        assert not list((data / "layers").iterdir())
        assert (data / "lost+found" / "unknown.qcow2").readlink() == secret
        assert secret.read_bytes() == SECRET
