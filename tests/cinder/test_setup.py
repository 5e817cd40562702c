"""Options, the guide's section, and what an operator is told when something is wrong with it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg
from tests.cinder.conftest import set_up
from tests.support.standin29 import PASSWORD, StandIn
from tests.support.standin29_tls import Authority

from openvstorage.cinder import opts
from openvstorage.cinder.driver import OpenvStorageEdgeVolumeDriver
from openvstorage.cinder.errors import SetupError

Section = dict[str, Any]
Configure = Callable[..., Any]


def test_the_guides_section_works_as_written(configure: Configure, standin_section: Section, context: Any) -> None:
    backend = configure(standin_section)
    set_up(backend, context)
    assert backend.openvstorage_management_ips == ["127.0.0.1", "127.0.0.2"]
    assert backend.openvstorage_port == standin_section["port"]
    assert backend.openvstorage_vpool_guid == standin_section["vpool_guid"]


def test_the_guides_markers_are_logged_and_no_secret(
    configure: Configure, standin_section: Section, context: Any, caplog: pytest.LogCaptureFixture
) -> None:
    set_up(configure(standin_section), context)
    cfg.CONF.log_opt_values(logging.getLogger("test"), logging.DEBUG)
    for marker in ("libovsvolumedriver.init", "libovsvolumedriver.do_setup"):
        (record,) = [record for record in caplog.records if marker in record.getMessage()]
        assert record.levelno == logging.DEBUG
    assert "openvstorage_password" in caplog.text
    assert PASSWORD not in caplog.text


def test_plain_names_in_backend_defaults_belong_to_other_drivers(configure: Configure, context: Any) -> None:
    """Another driver's password must not be sent to our cluster."""
    backend = configure({}, defaults={"password": "of another driver", "username": "somebody"})
    driver = OpenvStorageEdgeVolumeDriver(configuration=backend, host="h")
    assert backend.openvstorage_password is None
    assert backend.openvstorage_username is None
    with pytest.raises(SetupError, match=r"openvstorage_password.*\[myvpool01\]"):
        driver.do_setup(context)


def test_our_names_may_stand_in_backend_defaults_and_the_section_wins(configure: Configure) -> None:
    backend = configure({"username": "section"}, defaults={"openvstorage_username": "d", "openvstorage_password": "p"})
    opts.register(backend)
    assert (backend.openvstorage_username, backend.openvstorage_password) == ("section", "p")
    both = configure({"username": "old", "openvstorage_username": "new"}, name="myvpool02")
    opts.register(both)
    assert both.openvstorage_username == "new"
    assert both.openvstorage_port == 443


def test_two_vpools_keep_their_options_apart(configure: Configure) -> None:
    first, second = configure({"username": "one"}), configure({"username": "two"}, name="myvpool02")
    for backend in (first, second):
        opts.register(backend)
    assert second.openvstorage_username == "two"
    assert first.openvstorage_username is None, "the second file has no section of the first"


def test_the_sample_marks_the_password_and_explains_everything() -> None:
    ((group, options),) = opts.list_opts()
    assert group == "backend_defaults"
    assert [option.name for option in options if option.secret] == ["openvstorage_password"]
    assert all(option.name.startswith("openvstorage_") and option.help for option in options)
    assert OpenvStorageEdgeVolumeDriver.get_driver_options() == options


def fault(configure: Configure, context: Any, section: Section, **changes: Any) -> str:
    with pytest.raises(SetupError) as caught:
        set_up(configure({**section, **changes}), context)
    return str(caught.value)


def test_wrong_password_is_named(configure: Configure, context: Any, standin_section: Section) -> None:
    words = fault(configure, context, standin_section, password="guess")
    assert "openvstorage_password" in words
    assert "guess" not in words


def test_a_dollar_in_a_password_is_explained_and_nothing_of_it_shown(
    configure: Configure, context: Any, standin_section: Section, caplog: pytest.LogCaptureFixture
) -> None:
    """oslo.config reads what follows it as the name of an option: of none, or of one that there is."""
    words = fault(configure, context, standin_section, password="open$sesame")
    assert "openvstorage_password" in words
    assert "$$" in words
    assert "sesame" not in words + caplog.text
    assert "$$" in fault(configure, context, standin_section, password="open$host")


def test_a_dollar_that_is_written_twice_is_one_of_the_password(configure: Configure, standin_section: Section) -> None:
    backend = configure({**standin_section, "password": "open$$sesame"})
    opts.register(backend)
    assert backend.openvstorage_password == "open$sesame"
    assert opts.make_client(backend)


def test_unknown_vpool_is_named_with_those_that_exist(
    configure: Configure, context: Any, standin_section: Section, standin: StandIn
) -> None:
    words = fault(configure, context, standin_section, vpool_guid="00000000-0000-4000-8000-000000000000")
    assert "openvstorage_vpool_guid" in words
    assert standin.cluster.vpool_guid in words


def test_certificate_of_a_stranger_is_named(
    configure: Configure, context: Any, standin_section: Section, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "Stranger")
    changes = {"openvstorage_ca_file": stranger.ca_file, "management_ips": "127.0.0.1"}
    words = fault(configure, context, standin_section, **changes)
    assert "openvstorage_ca_file" in words
    assert "certificate" in words


def test_nobody_listening_is_named(configure: Configure, context: Any, standin_section: Section) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    words = fault(configure, context, standin_section, port=port)
    assert "openvstorage_management_ips" in words
    assert str(port) in words


def test_missing_options_are_all_named_at_once(configure: Configure, context: Any) -> None:
    words = fault(configure, context, {})
    for name in ("management_ips", "username", "password", "vpool_guid"):
        assert f"openvstorage_{name}" in words


def test_insecure_has_to_be_asked_for(configure: Configure, context: Any, standin_section: Section) -> None:
    section = {**standin_section, "management_ips": "127.0.0.1"}
    del section["openvstorage_ca_file"]
    assert "openvstorage_ca_file" in fault(configure, context, section)
    set_up(configure({**section, "openvstorage_insecure": True}), context)
