"""The cloud's notice: heard from a server over HTTP, obeyed as a stop, told at the end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crown_exp import Run
from crown_exp.config.settings import Notices, metadata_url, notices_of
from crown_exp.errors import SettingsError, Stopped
from crown_exp.outcome import ExitCode
from crown_exp.runner import metadata_server, notices
from crown_exp.runner.cloud_notices import CLOUDS, Notice
from crown_exp.runner.ending import what_became
from crown_exp.runner.metadata_server import MetadataServer as Client
from crown_exp.runner.notices import Watch, firmware, watched
from crown_exp.runner.stopping import StopRequest, stop_signals
from tests.metadata_server import TROUBLES, MetadataServer
from tests.running import Lab
from tests.stalls import late

HALF_A_MINUTE = Notice("Google Cloud", "preempted", 30.0)
SAVED = r"notice 30 s, saved in \d+\.\d s(, \d+\.\d s after its time)?, steps lost 0"
"""However long that takes on this machine."""


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with MetadataServer() as found:
        yield found


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked often, and no machine is too slow to answer."""
    monkeypatch.setattr(notices, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(metadata_server, "REQUEST_SECONDS", 60.0)


def wait_for(what: Any) -> None:
    deadline = time.monotonic() + 120
    while not what() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert what()


# --- heard ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dates", [True, False])
@pytest.mark.parametrize(
    ("cloud", "action"), [("aws", "terminate"), ("gcp", "preempted"), ("azure", "Preempt")]
)
def test_peace_then_a_notice(server: MetadataServer, cloud: str, action: str, dates: bool) -> None:
    server.dates = dates
    stop = StopRequest()
    with watched(stop, Notices(cloud, server.url)):
        wait_for(lambda: server.asked.total() > 6)
        assert stop.code is None
        given = time.monotonic()
        server.give_notice(cloud, seconds=30)
        wait_for(lambda: stop.code is not None)
    passed = time.monotonic() - given
    assert stop.notice is not None and stop.notice.action == action
    assert 28 - passed < stop.notice.left <= 31
    assert (stop.code, stop.why) == (ExitCode.PREEMPTED, stop.notice.words)


def test_a_nearer_notice_is_heard_while_the_run_trains_on_with_a_far_one(
    server: MetadataServer,
) -> None:
    stop = StopRequest()
    stop.in_loop, stop.reserve = True, lambda: 40.0
    with watched(stop, Notices("azure", server.url)):
        given = time.monotonic()
        server.give_notice("azure", seconds=600, EventType="Redeploy")
        wait_for(lambda: stop.notice is not None)
        asked = server.asked.total()
        wait_for(lambda: server.asked.total() > asked + 6)
        spare, passed = stop.spare, time.monotonic() - given
        assert stop.pending and 558 - passed < spare < 561
        assert stop.notice is not None and stop.notice.action == "Redeploy"
        given = time.monotonic()
        server.give_notice("azure", seconds=30)
        wait_for(lambda: stop.code is not None)
        passed = time.monotonic() - given
        asked = server.asked.total()
        time.sleep(0.1)
        assert server.asked.total() <= asked + 1  # it is obeyed: nothing more is asked
    why = re.fullmatch(r"notice (\d+) s", stop.why)
    assert stop.code == ExitCode.PREEMPTED and why and 28 - passed < int(why[1]) <= 31


class Counted(Client):
    """Counts the questions that were begun."""

    begun = 0

    def ask(self, question: Any) -> Any:
        self.begun += 1
        return super().ask(question)


def test_a_silent_server_does_not_hold_up_the_last_moment(
    server: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata_server, "REQUEST_SECONDS", 30.0)
    stop, said, reserve = StopRequest(), list[str](), [40.0]
    stop.in_loop, stop.reserve = True, lambda: reserve[0]
    server.give_notice("azure", seconds=600)
    client = Counted(server.url)
    watch = Watch(stop, CLOUDS["azure"](), client, said.append, silent_seconds=0.0)
    watch.thread.start()
    wait_for(lambda: stop.notice is not None)
    server.trouble = "500"
    asked = server.asked.total()
    wait_for(lambda: server.asked.total() > asked + 3)
    server.trouble = "hang"
    begun = client.begun
    wait_for(lambda: client.begun > begun)  # one that nobody will answer
    reserve[0] = 1000.0
    wait_for(lambda: stop.code is not None)
    assert watch.thread.is_alive()  # it still waits for an answer
    watch.close()
    assert said == []  # nor would a word about its silence be true: there is a notice


def test_an_expired_token_is_renewed(server: MetadataServer) -> None:
    stop = StopRequest()
    with watched(stop, Notices("aws", server.url)):
        for tokens in (1, 2, 3):
            wait_for(lambda wanted=tokens: server.asked["/latest/api/token"] == wanted)
            asked = server.asked.total()
            wait_for(lambda before=asked: server.asked.total() > before + 3)
            server.forget_tokens()
        server.give_notice("aws")
        wait_for(lambda: stop.code is not None)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_no_trouble_is_a_notice_and_afterwards_one_is_heard(
    server: MetadataServer, monkeypatch: pytest.MonkeyPatch, trouble: str, cloud: str
) -> None:
    monkeypatch.setattr(metadata_server, "REQUEST_SECONDS", 0.2)
    stop, said = StopRequest(), list[str]()
    server.trouble = trouble
    server.give_notice(cloud)
    watch = Watch(stop, CLOUDS[cloud](), Client(server.url), said.append, silent_seconds=0.0)
    heard_nothing = watch.heard
    for _ in range(3):
        with late() as stalls:
            began = time.monotonic()
            assert not watch.asked()
            took = time.monotonic() - began
        assert took < 20 + sum(stalls)  # a hung request ends; how soon is a matter of the machine
    if (trouble, cloud) != ("404", "aws"):  # that is how AWS says that there is none
        assert watch.heard == heard_nothing
        (line,) = said
        assert "\n" not in line and "CROWN_NOTICES__CLOUD=none" in line and server.url in line
        if trouble in ("slow", "drip", "hang"):  # its end was not waited for
            assert "timed out" in line or "no whole answer in time" in line
    server.trouble = ""
    monkeypatch.setattr(metadata_server, "REQUEST_SECONDS", 60.0)
    assert watch.asked() and stop.code == ExitCode.PREEMPTED
    assert len(said) <= 1


def test_nobody_there_is_told_once_after_a_while() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    said: list[str] = []
    watch = Watch(StopRequest(), CLOUDS["aws"](), Client(url), said.append)
    assert not watch.asked() and said == []
    watch.heard -= notices.OTHERS_SILENT_SECONDS + 1
    assert not watch.asked() and not watch.asked()
    (line,) = said
    assert "AWS" in line and url in line


def test_a_proxy_of_the_environment_is_not_asked(
    server: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.give_notice("gcp")
    stop = StopRequest()
    with watched(stop, Notices("gcp", server.url)):
        wait_for(lambda: stop.code is not None)


def test_the_thread_ends_with_the_attempt_even_where_the_server_hangs(
    server: MetadataServer,
) -> None:
    server.trouble = "hang"
    before = set(threading.enumerate())
    with watched(StopRequest(), Notices("gcp", server.url)):
        new = set(threading.enumerate()) - before
        (thread,) = [it for it in new if it.name == "crown-notices"]
        time.sleep(0.1)
        assert thread.daemon
    wait_for(lambda: not thread.is_alive())


def test_what_comes_after_the_end_is_not_passed_on(server: MetadataServer) -> None:
    server.give_notice("gcp")
    stop = StopRequest()
    watch = Watch(stop, CLOUDS["gcp"](), Client(server.url), print)
    watch.thread.start()
    watch.close()
    stop.code = None
    assert watch.asked() and stop.code is None


@pytest.mark.parametrize("cloud", ["auto", "none"])
def test_on_a_laptop_and_where_it_is_turned_off_nothing_is_done(
    server: MetadataServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cloud: str
) -> None:
    monkeypatch.setattr(notices, "firmware", lambda: {"sys_vendor": "LENOVO"})
    before = set(threading.enumerate())
    with watched(StopRequest(), Notices(cloud, server.url)):
        assert not set(threading.enumerate()) - before
        time.sleep(0.1)
    assert server.asked.total() == 0


def test_a_clouds_machine_is_known_by_its_firmware(
    server: MetadataServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "product_name").write_text("Google Compute Engine\n")
    found = firmware(tmp_path)
    assert found == {"product_name": "Google Compute Engine\n"}
    monkeypatch.setattr(notices, "firmware", lambda: found)
    with watched(StopRequest(), Notices("auto", server.url)):
        wait_for(lambda: server.asked.total() > 2)
    assert all(path.startswith("/computeMetadata/") for path in server.asked)


# --- settings -------------------------------------------------------------------------------------------


def test_settings_of_notices(tmp_path: Path) -> None:
    assert notices_of(tmp_path, {}) == Notices("auto", None)
    given = {"CROWN_NOTICES__CLOUD": "gcp", "CROWN_NOTICES__ENDPOINT": "http://[::1]:80/x/"}
    assert notices_of(tmp_path, given) == Notices("gcp", "http://[::1]:80/x")
    (tmp_path / ".env").write_text("CROWN_NOTICES__CLOUD=none\n")
    assert notices_of(tmp_path, {}) == Notices("none", None)
    assert notices_of(tmp_path, {"CROWN_NOTICES__CLOUD": "aws"}).cloud == "aws"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLOUD", "ec2"),
        ("ENDPOINT", "https://x"),
        ("ENDPOINT", "x"),
        ("ENDPOINT", "http://x:99999"),
    ],
)
def test_settings_that_are_none(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"CROWN_NOTICES__{name}: expected"):
        notices_of(tmp_path, {f"CROWN_NOTICES__{name}": value})


def test_a_wrong_setting_begins_no_attempt(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROWN_NOTICES__CLOUD", "ec2")
    run = lab.make(lambda run: 1)
    with pytest.raises(SettingsError, match="expected one of auto, aws, gcp, azure, none"):
        lab.attempt(run)
    assert not lab.facts(run).attempts


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254", "http://h:1/a", "http://[fd00:ec2::254]"]
)
def test_urls_of_metadata_servers(url: str) -> None:
    assert metadata_url(url) == metadata_url(f"{url}/") == url


# --- obeyed ---------------------------------------------------------------------------------------------


@pytest.fixture
def warned(server: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> MetadataServer:
    """A server that the runs of this test ask."""
    for name, value in server.environment("gcp").items():
        monkeypatch.setenv(name, value)
    return server


def test_in_a_turn_its_end_is_waited_for(
    lab: Lab, warned: MetadataServer, capsys: pytest.CaptureFixture[str]
) -> None:
    ends: list[int] = []
    given = 0.0

    def task(run: Run) -> None:
        nonlocal given
        for turn in run.steps(50):
            if turn == 3:
                given = time.monotonic()
                warned.give_notice("gcp")
                wait_for(lambda: run._stop.code is not None)
                time.sleep(0.2)
            ends.append(turn)

    ended = lab.run(task)
    assert (ends, ended.code, ended.state) == ([0, 1, 2, 3], 75, "preempted")
    (end,) = ended.facts.ends
    assert re.fullmatch(SAVED, end.reason)
    assert (end.step, end.saved) == (4, 4)
    assert f": {end.reason}\n" in ended.said
    passed = time.monotonic() - given
    said = capsys.readouterr().err
    told = re.search(
        r"Google Cloud takes this machine in (\d+) s \(preempted\); stopping at the end of this",
        said,
    )
    assert told and 29 - passed < int(told[1]) <= 30
    (event,) = [it for it in ended.records if it[0] == "e" and it[2] == "notice"]
    assert event[3] == {"cloud": "Google Cloud", "action": "preempted", "left": 30.0}


def test_in_an_evaluation_it_is_obeyed_at_once(lab: Lab, warned: MetadataServer) -> None:
    after: list[int] = []

    def task(run: Run) -> None:
        for turn in run.steps(50):
            if run.every("3 steps") and turn == 3:
                warned.give_notice("gcp")
                time.sleep(60)
                after.append(turn)

    ended = lab.run(task, {"checkpoint": {"every": "1 hour"}})
    assert (after, ended.code) == ([], 75)
    (end,) = ended.facts.ends
    assert (end.step, end.saved) == (3, 3)
    assert re.fullmatch(SAVED, end.reason)


def test_in_the_warm_up_it_is_obeyed_at_once_also_where_the_task_waits_for_something(
    lab: Lab, warned: MetadataServer
) -> None:
    warned.give_notice("gcp")
    never = threading.Lock()
    never.acquire()

    def task(run: Run) -> None:
        never.acquire()

    ended = lab.run(task)
    assert (ended.code, ended.ending.error) == (75, "notice 30 s, nothing to save")


def test_a_task_that_took_the_signal_for_itself_is_stopped_at_the_boundary(
    lab: Lab, warned: MetadataServer
) -> None:
    def task(run: Run) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        for _ in run.steps(1000):
            warned.give_notice("gcp")
            time.sleep(0.02)

    ended = lab.run(task)
    assert (ended.code, ended.state) == (75, "preempted")


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)


def test_sigterm_after_the_notice_ends_no_turn_and_no_save(lab: Lab) -> None:
    ends: list[int] = []

    def task(run: Run) -> None:
        for turn in run.steps(10):
            run._stop.warn(HALF_A_MINUTE)
            for _ in range(3):
                send(signal.SIGTERM)
            ends.append(turn)

    ended = lab.run(task)
    assert (ends, ended.code, ended.facts.ends[0].saved) == ([0], 75, 1)
    assert ended.ending.error.startswith("notice 30 s, saved in ")


def test_sigterm_just_before_the_notice_is_a_first_one(lab: Lab) -> None:
    ends: list[int] = []

    def task(run: Run) -> None:
        for turn in run.steps(10):
            send(signal.SIGTERM)
            run._stop.warn(HALF_A_MINUTE)
            send(signal.SIGTERM)
            ends.append(turn)

    ended = lab.run(task)
    assert (ends, ended.code) == ([0], 75)
    assert ended.ending.error.startswith("asked to stop (SIGTERM), saved in ")


def test_ctrl_c_twice_after_the_notice_still_ends_it_at_once(lab: Lab) -> None:
    ends: list[int] = []

    def task(run: Run) -> None:
        for turn in run.steps(10):
            run._stop.warn(HALF_A_MINUTE)
            send(signal.SIGINT)
            ends.append(turn)
            send(signal.SIGTERM)
            ends.append(turn)
            send(signal.SIGINT)
            ends.append(turn)

    ended = lab.run(task)
    assert (ends, ended.code, ended.state) == ([0, 0], 130, "stopped")


def test_who_waits_for_a_save_after_a_notice_is_told_of_the_second_ctrl_c_only() -> None:
    request = StopRequest()
    request.warn(HALF_A_MINUTE)
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        request.handle(number, None)
    assert (request.times, request.at_once) == (0, False)
    request.handle(signal.SIGINT, None)
    assert (request.times, request.at_once) == (1, True)


def test_of_several_notices_the_nearest_counts() -> None:
    now = [1_000.0]
    request = StopRequest(clock=lambda: now[0])
    request.in_loop, request.reserve = True, lambda: 10.0

    def told(action: str, left: float) -> tuple[str, float, float]:
        request.warn(Notice("Azure", action, left))
        assert request.notice is not None
        return request.notice.words, request.heard, request.until

    assert told("Redeploy", 600.0) == ("notice 600 s", 1_000.0, 1_600.0)
    now[0] = 1_010.0
    assert told("Redeploy", 591.0) == ("notice 600 s", 1_000.0, 1_600.0)
    assert told("Redeploy", 589.0) == ("notice 600 s", 1_000.0, 1_599.0)  # the same, read again
    assert told("Reboot", 900.0) == ("notice 600 s", 1_000.0, 1_599.0)
    request.heeded_notice = request.notice
    assert request.trains_on
    now[0] = 1_100.0
    assert told("Preempt", 40.0) == ("notice 40 s", 1_100.0, 1_140.0)
    assert request.pending and not request.trains_on
    now[0] = 1_131.0
    request.obey_notice()
    assert request.why == "notice 40 s"


def test_what_was_asked_before_the_notice_stays() -> None:
    request = StopRequest()
    request.handle(signal.SIGINT, None)
    request.warn(HALF_A_MINUTE)
    assert (request.code, request.why) == (130, "interrupted by the user")
    assert request.notice == HALF_A_MINUTE


def test_it_is_raised_in_the_main_thread_whatever_that_waits_for() -> None:
    request = StopRequest()
    with stop_signals(request), pytest.raises(Stopped, match="notice 30 s"), request.heeded():
        threading.Timer(0.1, request.warn, [HALF_A_MINUTE]).start()
        time.sleep(60)
    assert request.raised


def test_the_signal_that_carries_it_is_not_heeded_after_a_boundary_was_quicker() -> None:
    request = StopRequest()
    request.warn(HALF_A_MINUTE)
    request.at_work = True
    with pytest.raises(Stopped):
        request.raise_if_asked()
    request.handle(signal.SIGUSR1, None)  # while the task cleans up


def test_nothing_is_sent_where_nobody_listens() -> None:
    request = StopRequest()
    request.warn(HALF_A_MINUTE)  # SIGUSR1 would end this process
    assert request.code == ExitCode.PREEMPTED


def test_a_notice_whose_time_has_passed_ends_no_save() -> None:
    request = StopRequest()
    request.warn(Notice("AWS", "terminate", 0.0))
    request.handle(signal.SIGTERM, None)
    assert not request.at_once and request.until <= time.monotonic()


# --- told -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"step": 5, "saved": 5, "late": -20.0}, "saved in 3.1 s, steps lost 0"),
        (
            {"step": 5, "saved": 5, "late": 1.1},
            "saved in 3.1 s, 1.1 s after its time, steps lost 0",
        ),
        ({"step": 5, "saved": 2, "late": -20.0}, "not saved, steps lost 3"),
        ({"step": 5, "saved": None, "late": 0.0}, "not saved, steps lost 5"),
        ({"step": 5, "saved": 3, "late": 0.0, "at_once": True}, "ended at once, steps lost 2"),
        ({"step": 5, "saved": 5, "late": 0.0, "at_once": True}, "saved in 3.1 s, steps lost 0"),
        ({"step": 0, "saved": None, "late": 0.0}, "nothing to save"),
        ({"step": 0, "saved": 0, "late": 0.0}, "nothing to save"),
    ],
)
def test_what_became_of_the_state(given: dict[str, Any], told: str) -> None:
    assert what_became(seconds=3.14, **given) == told


def test_the_event_is_plain_json() -> None:
    assert json.loads(json.dumps(HALF_A_MINUTE.__dict__))["left"] == 30.0
