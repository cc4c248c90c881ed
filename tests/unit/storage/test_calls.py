"""Calls that end in time, and are made again where that is safe: pure coroutines stand for requests."""

import random
from asyncio import SelectorEventLoop
from collections.abc import Awaitable, Callable
from itertools import permutations
from selectors import DefaultSelector, SelectorKey
from typing import Any

import anyio
import pytest

from crown_exp.errors import SettingsError, StoreError
from crown_exp.storage import AlreadyExists, NotFound
from crown_exp.storage.calls import BYTES_PER_S, Calls, Refused, deadline_of
from crown_exp.storage.trouble import Answer, Kind, Place, Verb

pytestmark = pytest.mark.anyio

BUSY = Answer(503, "SlowDown")
LOST = Answer(said="IncompleteMessage")
EXISTS = Answer(412, "PreconditionFailed")
MISSING = Answer(404, "NoSuchKey")
DENIED = Answer(403, "AccessDenied")
CONFLICT = Answer(409, "ConditionalRequestConflict")


class Skipping(DefaultSelector):
    """Passes over the time for which a loop would wait, and adds it up."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        found = super().select(None if timeout is None else 0)
        if not found:
            self.passed += timeout or 0.0
        return found


class Waitless(SelectorEventLoop):
    """A loop by whose clock only waiting takes time: exactly as long as was asked for, and none of ours."""

    def __init__(self) -> None:
        self.skipping = Skipping()
        super().__init__(self.skipping)

    def time(self) -> float:
        return self.skipping.passed


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": Waitless}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crown_exp.storage.calls.FIRST_WAIT_S", 0.01)


class Answered(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.code)
        self.answer = answer


def answer_of(error: Exception) -> Answer | None:
    return error.answer if isinstance(error, Answered) else None


def calls(deadline_s: float = 60.0) -> Calls:
    return Calls(Place("s3://b/p"), answer_of, deadline_s)


class Server:
    """One blob; its next answers may be others than the truth, or come after the deed was done."""

    def __init__(self, *faults: Answer, done: bool = False, blob: bytes | None = None) -> None:
        self.faults, self.done, self.blob = list(faults), done, blob
        self.puts = self.gets = 0

    def putting(self, data: bytes) -> Callable[[], Awaitable[None]]:
        async def put() -> None:
            self.puts += 1
            fault = self.faults.pop(0) if self.faults else None
            if (fault is None or self.done) and self.blob is None:
                self.blob = data
            elif fault is None:
                raise Answered(EXISTS)
            if fault is not None:
                raise Answered(fault)

        return put

    async def get(self) -> bytes:
        self.gets += 1
        if self.blob is None:
            raise Answered(MISSING)
        return self.blob


async def test_a_call_is_made_again_until_it_succeeds() -> None:
    faults = [BUSY, LOST, CONFLICT]

    async def act() -> int:
        if faults:
            raise Answered(faults.pop())
        return 7

    assert await calls().again(act, Verb.READ, "x") == 7


@pytest.mark.parametrize(
    ("answer", "kind"), [(DENIED, Refused), (MISSING, NotFound), (EXISTS, AlreadyExists)]
)
async def test_what_stays_so_is_asked_once(answer: Answer, kind: type[Exception]) -> None:
    made = 0

    async def act() -> None:
        nonlocal made
        made += 1
        raise Answered(answer)

    with pytest.raises(kind, match=r"x.* in s3://b/p"):
        await calls().again(act, Verb.READ, "x")
    assert made == 1


async def test_a_mistake_of_ours_is_no_trouble_with_the_store() -> None:
    async def act() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await calls().again(act, Verb.READ, "x")


async def test_the_deadline_ends_what_hangs() -> None:
    ended = 0

    async def hang() -> None:
        nonlocal ended
        try:
            await anyio.sleep_forever()
        finally:
            ended += 1

    with pytest.raises(
        Refused, match=r"cannot read x in s3://b/p: .* does not answer \(timed out\)"
    ) as caught:
        await calls(0.3).again(hang, Verb.READ, "x")
    assert caught.value.trouble.kind is Kind.UNREACHABLE
    assert ended >= 1


async def test_the_deadline_ends_what_fails_again_and_again() -> None:
    async def busy() -> None:
        raise Answered(BUSY)

    with pytest.raises(Refused, match=r"answers 503 SlowDown; .*\(tried \d+ times in [01] s\)"):
        await calls(1).again(busy, Verb.WRITE, "x")


async def test_a_machine_that_stands_still_between_two_tries_does_not_hide_why_they_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sleep, made = anyio.sleep, 0

    async def busy() -> None:
        nonlocal made
        made += 1
        await sleep(0)
        raise Answered(BUSY)

    async def oversleep(seconds: float) -> None:
        await sleep(seconds + 100)

    monkeypatch.setattr(anyio, "sleep", oversleep)
    with pytest.raises(Refused, match=r"answers 503 SlowDown"):
        await calls(60).again(busy, Verb.READ, "x")
    assert made == 1


async def test_one_that_hangs_leaves_time_for_another() -> None:
    hung = False

    async def act() -> str:
        nonlocal hung
        if not hung:
            hung = True
            await anyio.sleep_forever()
        return "ok"

    assert await calls(5).again(act, Verb.READ, "x") == "ok"


async def test_bytes_take_time() -> None:
    async def slow() -> str:
        await anyio.sleep(0.5)
        return "ok"

    with pytest.raises(Refused):
        await calls(0.1).again(slow, Verb.READ, "x")
    assert await calls(0.1).again(slow, Verb.READ, "x", size=4 * BYTES_PER_S) == "ok"


async def test_a_lost_answer_after_the_deed_is_success() -> None:
    for fault in (LOST, BUSY, CONFLICT):
        server = Server(fault, done=True)
        await calls().create(server.putting(b"mine"), server.get, "x", b"mine")
        assert (server.blob, server.puts, server.gets) == (b"mine", 1, 1)


async def test_a_lost_request_is_sent_again() -> None:
    server = Server(LOST, BUSY)
    await calls().create(server.putting(b"mine"), server.get, "x", b"mine")
    assert (server.blob, server.puts) == (b"mine", 3)


async def test_the_same_bytes_of_another_are_anothers() -> None:
    server = Server(blob=b"mine")
    with pytest.raises(AlreadyExists, match=r"x exists in s3://b/p"):
        await calls().create(server.putting(b"mine"), server.get, "x", b"mine")
    assert server.gets == 0


async def test_the_race_is_lost_to_other_bytes_whatever_was_lost_before() -> None:
    for faults in ([LOST], [BUSY, LOST], [CONFLICT]):
        server = Server(*faults, blob=b"theirs")
        with pytest.raises(AlreadyExists):
            await calls().create(server.putting(b"mine"), server.get, "x", b"mine")
        assert server.blob == b"theirs"


async def test_a_write_that_lands_late_is_ours() -> None:
    """The first try was believed lost, and nothing was there; the second finds what the first wrote."""
    server = Server(LOST)
    put = server.putting(b"mine")

    async def late() -> None:
        if server.puts == 1:
            server.blob = b"mine"
        await put()

    await calls().create(late, server.get, "x", b"mine")
    assert (server.blob, server.puts) == (b"mine", 2)


async def test_a_create_ends_by_its_deadline() -> None:
    server = Server(*[BUSY] * 1000)
    with pytest.raises(Refused, match="SlowDown"):
        await calls(0.5).create(server.putting(b"mine"), server.get, "x", b"mine")
    assert server.blob is None


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("blob", [None, b"mine", b"theirs"])
@pytest.mark.parametrize("faults", list(permutations([LOST, BUSY, CONFLICT], 2)))
async def test_a_create_never_lies(
    faults: tuple[Answer, ...], done: bool, blob: bytes | None
) -> None:
    """It succeeds only where its bytes are there, and is refused only where another's are."""
    for count in range(len(faults) + 1):
        server = Server(*faults[:count], done=done, blob=blob)
        try:
            await calls().create(server.putting(b"mine"), server.get, "x", b"mine")
        except AlreadyExists:
            assert server.blob == blob is not None
        else:
            assert server.blob == b"mine"


def test_the_deadline_that_is_set() -> None:
    assert deadline_of({}) == 60
    assert deadline_of({"DEADLINE": "2.5"}) == 2.5
    for text in ("", "soon", "0", "-1", "inf", "nan"):
        with pytest.raises(SettingsError, match="CROWN_STORAGE__DEADLINE"):
            deadline_of({"DEADLINE": text})


def test_a_refusal_survives_a_worker_process() -> None:
    import pickle

    error = calls().failed(Answered(DENIED), Verb.DELETE, "x")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, Refused) and isinstance(again, StoreError)
    assert (str(again), again.trouble) == (str(error), error.trouble)  # type: ignore[union-attr]


async def test_the_tasks_random_numbers_are_left_alone() -> None:
    before = random.getstate()
    await test_a_call_is_made_again_until_it_succeeds()
    assert random.getstate() == before


async def test_what_is_not_found_in_no_words_of_s3_is_asked_again() -> None:
    """A proxy answers so whose server is away; but a look cannot be answered in words."""
    plain = Answer(404)
    for verb in set(Verb) - {Verb.LOOK}:
        faults = [plain, plain]

        async def act(left: list[Answer] = faults) -> int:
            if left:
                raise Answered(left.pop())
            return 7

        assert await calls().again(act, verb, "x") == 7

    async def missing() -> None:
        raise Answered(plain)

    with pytest.raises(NotFound, match=r"^x is not in s3://b/p$"):
        await calls().again(missing, Verb.LOOK, "x")
    with pytest.raises(Refused, match=r"^cannot read x in .* answers 404 without a word of S3's"):
        await calls(0.3).again(missing, Verb.READ, "x")


@pytest.mark.parametrize("verb", [Verb.WRITE, Verb.LIST])
async def test_what_needs_no_blob_does_not_say_that_there_is_none(verb: Verb) -> None:
    async def act() -> None:
        raise Answered(MISSING)

    with pytest.raises(Refused, match=rf"^cannot {verb.value} s3://b/p: .* answers 404 NoSuchKey$"):
        await calls().again(act, verb, "")
