"""cinder-volume with native threads instead of eventlet, all at debug level, and no secret anywhere afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import AllInOne
from tests.support.cinder_world import FIRST, GIB, SECOND, CinderWorld

from openvstorage.aio.image import make_image
from openvstorage.aio.shell import OpenStackShell
from openvstorage.aio.tour_steps import PREFIX, TourSteps
from openvstorage.aio.user import User

pytestmark = pytest.mark.timeout(600)

# What Keystone's tokens begin with: version and the first bytes of a time.
_FERNET = re.compile(rb"gAAAAA[\w-]{40,}")


@pytest.fixture(scope="module")
def native(world: CinderWorld) -> CinderWorld:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OS_CINDER_DISABLE_EVENTLET_PATCHING", "true")
        started = world.start_cinder_volume()
    # Before it is stopped the old process may have a word.
    assert started.rindex(b"oslo_service.backend._threading") > started.rfind(b"oslo_service.backend._eventlet")
    return world


def test_tour_passes_with_native_threads(native: CinderWorld) -> None:
    """The steps about volumes; each raises when its evidence is wrong."""
    cloud = native.cloud
    clouds = cloud.paths.state / "clouds.yaml"
    with OpenStackShell(cloud.environment.program("openstack"), clouds, "aio") as shell:
        user = User(shell, PREFIX, cloud.paths.log)
        for _, step in TourSteps(user, native.vpools[FIRST].edge, make_image(cloud.paths), FIRST).all():
            step()


def test_images_are_made_of_volumes_whichever_thread_does_it(native: CinderWorld) -> None:
    """The tour made one; with eventlet's thread pool the next ones would wait for ever."""
    volumes = [native.make(FIRST) for _ in range(2)]
    words = {"disk_format": "raw", "container_format": "bare", "force": False}
    made = [
        native.request("POST", f"/volumes/{each}/action", **{"os-volume_upload_image": {"image_name": each, **words}})
        for each in volumes
    ]
    for volume, answer in zip(volumes, made, strict=True):
        native.await_volume(volume)
        image = native.images.get_image(answer["os-volume_upload_image"]["image_id"])
        assert (image.status, image.size) == ("active", GIB)
        native.images.delete_image(image)
    native.delete(*volumes)


@pytest.fixture
def connection_info(native: CinderWorld) -> Iterator[str]:
    """What Cinder tells of an attachment."""
    volume = native.make(FIRST)
    asked = {"volume_uuid": volume, "connector": {"host": "host1", "ip": "127.0.0.1"}}
    made = native.request("POST", "/attachments", attachment=asked)["attachment"]
    yield json.dumps(native.request("GET", f"/attachments/{made['id']}"))
    native.request("DELETE", f"/attachments/{made['id']}")
    native.delete(volume)


def test_no_secret_is_anywhere_after_a_debug_run(
    native: CinderWorld, all_in_one: AllInOne, connection_info: str
) -> None:
    passwords = set(json.loads((all_in_one.state / "etc" / "passwords.json").read_text()).values())
    passwords |= {Path(native.services[name]["password_file"]).read_text().strip() for name in (FIRST, SECOND)}
    passed = set().union(*(gate.secrets for gate in native.gates))
    own = json.loads(connection_info)["attachment"]["connection_info"]["secret"]
    assert own in passed, "grant secrets are among what is looked for"
    assert len(passed) > 2
    places = {path: path.read_bytes() for path in native.logs() if path.stat().st_size}
    places |= {Path(f"/proc/{pid}/cmdline"): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in all_in_one.marked()}
    if all_in_one.report.exists():
        places[all_in_one.report] = all_in_one.report.read_bytes()
    for name in ("cinder-volume", "cinder-api", "keystone", "glance"):
        assert b" DEBUG " in places[all_in_one.state / "log" / f"{name}.log"], f"{name} does not tell everything"
    found = [
        (place, secret[:6])
        for place, text in places.items()
        for secret in passwords | passed
        if secret.encode() in text
    ]
    found += [(place, str(token.group()[:12])) for place, text in places.items() for token in _FERNET.finditer(text)]
    assert found == []
    # Whoever may see an attachment may ask where it is served, with its own secret, and nothing else.
    assert [secret[:6] for secret in (passwords | passed) - {own} if secret in connection_info] == []
