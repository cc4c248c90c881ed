"""What metadata servers answer, by the vendors' own examples, and what is made of anything else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.runner.cloud_notices import (
    AZURE_TAG,
    CLOUDS,
    FIRMWARE,
    Answer,
    Aws,
    Azure,
    Google,
    Nonsense,
    Notice,
    Question,
    cloud_of,
)

NOW = datetime(2026, 11, 30, 10, 0, tzinfo=UTC)
TOKEN, ACTION = "/latest/api/token", "/latest/meta-data/spot/instance-action"
PREEMPTED = "/computeMetadata/v1/instance/preempted"
MAINTENANCE = "/computeMetadata/v1/instance/maintenance-event"
EVENTS, MACHINE = "/metadata/scheduledevents", "/metadata/instance/compute/name"


class Server:
    """Answers by path; notes what it was asked."""

    def __init__(self, answers: Mapping[str, Any], date: datetime | None = NOW) -> None:
        self.answers, self.date = dict(answers), date
        self.asked: list[Question] = []

    def __call__(self, question: Question) -> Answer:
        self.asked.append(question)
        found = self.answers[question.path.partition("?")[0]]
        if isinstance(found, Exception):
            raise found
        status, text = found if isinstance(found, tuple) else (200, found)
        return Answer(status, text, self.date)


# --- AWS ------------------------------------------------------------------------------------------------


def aws(text: Any, **more: Any) -> Server:
    return Server({TOKEN: "AQAEAtoken==", ACTION: text}, **more)


def test_aws_has_nothing_to_say() -> None:
    server = aws((404, "<?xml version='1.0'?> 404 - Not Found"))
    assert Aws().notice(server, NOW) is None
    put, get = server.asked
    assert (put.method, dict(put.headers)) == (
        "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "21600"},
    )  # fmt: skip
    assert (get.method, dict(get.headers)) == (
        "GET", {"X-aws-ec2-metadata-token": "AQAEAtoken=="},
    )  # fmt: skip


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_aws_takes_the_machine(action: str) -> None:
    told = json.dumps({"action": action, "time": "2026-11-30T10:02:00Z"})
    assert Aws().notice(aws(told), NOW) == Notice("AWS", action, 120.0)


def test_a_token_serves_until_it_has_expired() -> None:
    server, cloud = aws((404, "")), Aws()
    for _ in range(3):
        cloud.notice(server, NOW)
    assert [it.method for it in server.asked] == ["PUT", "GET", "GET", "GET"]
    server.answers[ACTION] = (401, "Unauthorized")
    server.answers[TOKEN] = "another"
    with pytest.raises(Nonsense, match="401"):
        cloud.notice(server, NOW)
    server.answers[ACTION] = '{"action": "stop", "time": "2026-11-30T10:00:27Z"}'
    assert cloud.notice(server, NOW) == Notice("AWS", "stop", 27.0)
    assert server.asked[-1].headers["X-aws-ec2-metadata-token"] == "another"


@pytest.mark.parametrize("days", [-1, 0, 1])
def test_a_clock_that_is_a_day_wrong_changes_nothing_where_the_server_has_one(days: int) -> None:
    told = '{"action": "terminate", "time": "2026-11-30T10:01:00Z"}'
    found = Aws().notice(aws(told), NOW + timedelta(days=days))
    assert found is not None and found.left == 60.0


@pytest.mark.parametrize(("days", "left"), [(-1, 120.0), (1, 0.0)])
def test_without_the_servers_clock_it_is_a_notice_all_the_same(days: int, left: float) -> None:
    told = '{"action": "terminate", "time": "2026-11-30T10:01:00Z"}'
    found = Aws().notice(aws(told, date=None), NOW + timedelta(days=days))
    assert found is not None and found.left == left


@pytest.mark.parametrize(
    ("time", "left"),
    [
        ("2026-11-30T09:59:59Z", 0.0),
        ("2026-11-30T09:54:00Z", None),
        ("2017-09-18T08:22:00Z", None),
        ("soon", 0.0),
        (None, 0.0),
        (7, 0.0),
    ],
)
def test_a_time_that_has_passed_and_one_that_is_none(time: Any, left: float | None) -> None:
    found = Aws().notice(aws(json.dumps({"action": "stop", "time": time})), NOW)
    assert (found and found.left) == left


@pytest.mark.parametrize("text", ["", "terminate", "[]", "{}", '{"action": "dance"}', (403, "off")])
def test_what_aws_does_not_say_is_no_notice(text: Any) -> None:
    with pytest.raises(Nonsense):
        Aws().notice(aws(text), NOW)


@pytest.mark.parametrize("token", ["", (403, "no"), (404, ""), "two\nlines", "é"])
def test_no_token_no_question(token: Any) -> None:
    server = Server({TOKEN: token})
    with pytest.raises(Nonsense, match="no token"):
        Aws().notice(server, NOW)


# --- Google Cloud ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preempted", "maintenance", "notice"),
    [
        ("FALSE", "NONE", None),
        ("FALSE\n", "MIGRATE_ON_HOST_MAINTENANCE", None),
        ("TRUE", "NONE", Notice("Google Cloud", "preempted", 30.0)),
        ("TRUE\n", "TERMINATE_ON_HOST_MAINTENANCE", Notice("Google Cloud", "preempted", 30.0)),
        (
            "FALSE",
            "TERMINATE_ON_HOST_MAINTENANCE",
            Notice("Google Cloud", "maintenance", 60.0),
        ),
    ],
)
def test_google(preempted: str, maintenance: str, notice: Notice | None) -> None:
    server = Server({PREEMPTED: preempted, MAINTENANCE: maintenance})
    assert Google().notice(server, NOW) == notice
    assert all(it.headers == {"Metadata-Flavor": "Google"} for it in server.asked)


@pytest.mark.parametrize("text", ["", "<html>TRUE</html>", "true", (404, "TRUE"), (503, "")])
def test_what_google_does_not_say_is_no_notice(text: Any) -> None:
    with pytest.raises(Nonsense):
        Google().notice(Server({PREEMPTED: text, MAINTENANCE: text}), NOW)


# --- Azure ----------------------------------------------------------------------------------------------


def azure(*events: Mapping[str, Any], machine: Any = "vm-7") -> Server:
    kept = {
        "EventId": "602d9444-d2cd-49c7-8624-8643e7171297", "EventType": "Preempt",
        "ResourceType": "VirtualMachine", "Resources": ["vm-7"], "EventStatus": "Scheduled",
        "NotBefore": "Mon, 30 Nov 2026 10:00:30 GMT", "Description": "", "EventSource": "Platform",
        "DurationInSeconds": -1,
    }  # fmt: skip
    document = {"DocumentIncarnation": 2, "Events": [kept | event for event in events]}
    return Server({EVENTS: json.dumps(document), MACHINE: machine})


def test_azure_has_nothing_to_say_and_is_asked_for_no_name() -> None:
    server = azure()
    assert Azure().notice(server, NOW) is None
    (asked,) = server.asked
    assert asked.headers == {"Metadata": "true"} and "api-version=" in asked.path


@pytest.mark.parametrize(
    ("event", "left"),
    [
        ({}, 30.0),
        ({"EventType": "Terminate", "NotBefore": "Mon, 30 Nov 2026 10:05:00 GMT"}, 300.0),
        ({"EventType": "Reboot", "NotBefore": "Mon, 30 Nov 2026 10:15:00 GMT"}, 900.0),
        ({"EventType": "Redeploy"}, 30.0),
        ({"EventStatus": "Started", "NotBefore": ""}, 0.0),
        ({"NotBefore": ""}, 0.0),
        ({"NotBefore": None}, 0.0),
        ({"NotBefore": "2026"}, 0.0),
        ({"Resources": ["other", "VM-7"]}, 30.0),
        ({"EventType": "Freeze"}, None),
        ({"EventType": "Reboot", "EventStatus": "Started", "NotBefore": ""}, None),
        ({"EventStatus": "Completed"}, None),
        ({"Resources": ["vm-77", "other"]}, None),
    ],
)
def test_an_event_of_azure(event: dict[str, Any], left: float | None) -> None:
    found = Azure().notice(azure(event), NOW)
    assert (found and found.left) == left
    assert found is None or found.action == event.get("EventType", "Preempt")


def test_of_several_events_the_first_to_come_counts() -> None:
    later = {"EventType": "Terminate", "NotBefore": "Mon, 30 Nov 2026 10:05:00 GMT"}
    found = Azure().notice(azure(later, {}), NOW)
    assert found == Notice("Azure", "Preempt", 30.0)


@pytest.mark.parametrize("machine", [(500, ""), OSError("no"), ""])
def test_a_machine_that_does_not_know_its_name_takes_every_event_for_its_own(machine: Any) -> None:
    assert Azure().notice(azure({"Resources": ["vm-8"]}, machine=machine), NOW) is not None


def test_the_name_is_asked_for_once() -> None:
    server, cloud = azure({"Resources": ["vm-8"]}), Azure()
    for _ in range(3):
        assert cloud.notice(server, NOW) is None
    assert [MACHINE in it.path for it in server.asked] == [False, True, False, False]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Events": 3}', (404, "{}"), (410, "Gone")])
def test_what_azure_does_not_say_is_no_notice(text: Any) -> None:
    with pytest.raises(Nonsense):
        Azure().notice(Server({EVENTS: text, MACHINE: "vm-7"}), NOW)


# --- all ------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(
        ["Preempt", "Scheduled", "terminate", "vm-7", "2026-11-30T10:02:00Z"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(
            ["action", "time", "Events", "EventType", "EventStatus", "Resources", "NotBefore"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.sampled_from(sorted(CLOUDS)), st.integers(100, 599), JSON.map(json.dumps) | st.text())
def test_whatever_is_answered_it_is_a_notice_nothing_or_nonsense(
    cloud: str, status: int, text: str
) -> None:
    paths = (TOKEN, ACTION, PREEMPTED, MAINTENANCE, EVENTS, MACHINE)
    for code in (status, 200):
        try:
            found = CLOUDS[cloud]().notice(Server(dict.fromkeys(paths, (code, text))), NOW)
        except Nonsense as error:
            assert "\n" not in str(error)
            continue
        assert found is None or (code == 200 and found.left >= 0)


@pytest.mark.parametrize(
    ("firmware", "cloud"),
    [
        ({"sys_vendor": "Amazon EC2\n", "product_name": "p4d.24xlarge\n"}, "aws"),
        ({"sys_vendor": "Xen\n", "bios_version": "4.11.amazon\n"}, "aws"),
        ({"sys_vendor": "Google\n", "product_name": "Google Compute Engine\n"}, "gcp"),
        (
            {"sys_vendor": "Microsoft Corporation\n", "chassis_asset_tag": f"{AZURE_TAG}\n"},
            "azure",
        ),
        ({"sys_vendor": "Google\n", "product_name": "Eve\n"}, None),  # a laptop
        ({"sys_vendor": "Microsoft Corporation\n", "product_name": "Virtual Machine\n"}, None),
        ({"sys_vendor": "LENOVO\n", "product_name": "21CB\n", "bios_version": "N3AET\n"}, None),
        ({"sys_vendor": "QEMU\n"}, None),
        ({}, None),
    ],
)
def test_whose_machine_it_is(firmware: dict[str, str], cloud: str | None) -> None:
    assert cloud_of(firmware) == cloud
    assert firmware.keys() <= set(FIRMWARE)
