"""The stand-in answers what the known clients send: else tests against it would prove nothing about clusters."""

import base64
from urllib.parse import quote_plus

import pytest
from tests.support import golden
from tests.support.standin29 import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME


@pytest.fixture
def values(standin):
    return {
        "form_username": quote_plus(USERNAME),
        "form_password": quote_plus(PASSWORD),
        "basic": base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode(),
        "vpool_guid": standin.cluster.vpool_guid,
        "storagerouter_guid": standin.cluster.routers[0]["guid"],
    }


@pytest.mark.parametrize("story", golden.stories())
def test_story(standin, authority, values, story):
    golden.replay(story, golden.https_sender(standin.host, standin.port, authority.ca_file), values)
    assert standin.cluster.vdisks == {}, "a story deletes what it makes"


def test_a_wrong_answer_is_noticed(standin, authority, values, monkeypatch):
    monkeypatch.setattr(standin.cluster, "extend", lambda vdisk, size: None)
    with pytest.raises(AssertionError, match="the new size"):
        golden.replay("ext", golden.https_sender(standin.host, standin.port, authority.ca_file), values)


def test_names_within_a_story_are_unique():
    for story in golden.stories():
        names = [entry["name"] for entry in golden.load(story)]
        assert len(names) == len(set(names))
