"""What the clouds' metadata servers say of the end of a spot machine: questions, and how answers are read.

Nothing here does I/O or reads a clock: `ask` puts a question to the server, and `now` is handed in. Times are
compared with the server's own Date where it sends one, so that this machine's clock may be wrong.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
https://cloud.google.com/compute/docs/instances/spot, …/gpus/gpu-host-maintenance
https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from crown_exp.clock import parse_iso

WORD = "notice "
"""How the reason of an end begins that came by a notice."""


class Nonsense(Exception):
    """An answer that no metadata server of this cloud gives."""


@dataclass(frozen=True)
class Notice:
    """That a machine is about to be taken.

    cloud: whose machine it is, as people write it. action: the cloud's word for what it will do. left: the
    seconds that were left when this was read, 0 if it is happening already.
    """

    cloud: str
    action: str
    left: float

    @property
    def words(self) -> str:
        """Why a run ends that had this notice."""
        return f"{WORD}{self.left:.0f} s"


@dataclass(frozen=True)
class Question:
    """A request to the metadata server."""

    path: str
    headers: Mapping[str, str]
    method: str = "GET"


@dataclass(frozen=True)
class Answer:
    """What it answered. date: by its own clock, if it said so."""

    status: int
    text: str
    date: datetime | None = None


Ask = Callable[[Question], Answer]
"""Puts a question. Raises OSError if there is no answer in time, Nonsense if it is not HTTP."""


class Cloud(Protocol):
    """One cloud's way to tell."""

    name: str

    def notice(self, ask: Ask, now: datetime) -> Notice | None:
        """The notice, if there is one. Raises as `ask`, and Nonsense for what this cloud does not say."""


# --- AWS ------------------------------------------------------------------------------------------------

TOKEN = Question(
    "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}, method="PUT"
)
TOKEN_FORM = re.compile(r"[!-~]{1,1024}")
ACTION = "/latest/meta-data/spot/instance-action"
ACTIONS = ("terminate", "stop", "hibernate")
AWS_SECONDS = 120.0
"""How long before the end AWS tells; a longer time is the fault of a clock."""
OVER_SECONDS = 300.0
"""A notice whose time passed so long ago was not carried out, or is that of a life before."""


class Aws:
    """IMDSv2: a token first, renewed when it has expired. A rebalance recommendation is no notice."""

    name = "AWS"

    def __init__(self) -> None:
        self.token = ""

    def notice(self, ask: Ask, now: datetime) -> Notice | None:
        """As Cloud."""
        answer = self.asked(ask) if self.token else None
        if answer is None or answer.status == 401:
            self.token = self.new_token(ask)
            answer = self.asked(ask)
        if answer.status == 404:
            return None
        told = _json(answer, self.name)
        if told.get("action") not in ACTIONS:
            raise Nonsense(f"says {_short(answer.text)}")
        left = self.left(told.get("time"), answer.date, now)
        return None if left is None else Notice(self.name, told["action"], left)

    def asked(self, ask: Ask) -> Answer:
        """The answer to the question that this is about."""
        return ask(Question(ACTION, {"X-aws-ec2-metadata-token": self.token}))

    @staticmethod
    def new_token(ask: Ask) -> str:
        """A token for the next six hours."""
        answer = ask(TOKEN)
        if answer.status != 200 or not TOKEN_FORM.fullmatch(answer.text.strip()):
            raise Nonsense(f"gives no token: {_short(answer.text, answer.status)}")
        return answer.text.strip()

    @staticmethod
    def left(time: Any, date: datetime | None, now: datetime) -> float | None:
        """Seconds until then; 0 if the time cannot be read: the action can. None if it is long over."""
        try:
            left = (parse_iso(time) - (date or now)).total_seconds()
        except (TypeError, ValueError, OverflowError):
            return 0.0
        if date is not None and left < -OVER_SECONDS:
            return None
        return min(max(left, 0.0), AWS_SECONDS)


# --- Google Cloud ---------------------------------------------------------------------------------------

INSTANCE = "/computeMetadata/v1/instance"
GOOGLE = {"Metadata-Flavor": "Google"}
PREEMPTION_SECONDS = 30.0
MAINTENANCE_SECONDS = 60.0
"""An hour of a machine with GPUs; the server does not say which it is, so the shorter counts."""


class Google:
    """`preempted`, and the maintenance that ends a machine which cannot move to another host."""

    name = "Google Cloud"

    def notice(self, ask: Ask, now: datetime) -> Notice | None:
        """As Cloud."""
        if self.value(ask, "preempted", ("TRUE", "FALSE")) == "TRUE":
            return Notice(self.name, "preempted", PREEMPTION_SECONDS)
        event = self.value(ask, "maintenance-event", ("NONE", "M", "T"))
        if event == "TERMINATE_ON_HOST_MAINTENANCE":
            return Notice(self.name, "maintenance", MAINTENANCE_SECONDS)
        return None

    @staticmethod
    def value(ask: Ask, name: str, beginnings: tuple[str, ...]) -> str:
        """A value of the instance, which begins in one of these ways."""
        answer = ask(Question(f"{INSTANCE}/{name}", GOOGLE))
        text = answer.text.strip()
        if answer.status != 200 or not text.startswith(beginnings) or len(text) > 80:
            raise Nonsense(f"says {_short(answer.text, answer.status)} of {name}")
        return text


# --- Azure ----------------------------------------------------------------------------------------------

EVENTS = Question("/metadata/scheduledevents?api-version=2020-07-01", {"Metadata": "true"})
MACHINE = Question(
    "/metadata/instance/compute/name?api-version=2021-02-01&format=text", {"Metadata": "true"}
)
ENDING: Mapping[str, tuple[str, ...]] = {
    "Preempt": ("Scheduled", "Started"),
    "Terminate": ("Scheduled", "Started"),
    "Reboot": ("Scheduled",),
    "Redeploy": ("Scheduled",),
}
"""Events that end a process, while they have this status. A reboot stays started until after it."""


@dataclass
class Azure:
    """Scheduled events. They are not acknowledged: that would only bring the end sooner.

    A document holds the events of all machines of a set. machine: this one's name, asked for when it matters.
    """

    name = "Azure"
    machine: str = ""

    def notice(self, ask: Ask, now: datetime) -> Notice | None:
        """As Cloud."""
        answer = ask(EVENTS)
        events = list(_ending(_json(answer, self.name)))
        if events and not self.machine:
            self.machine = self.machine_name(ask)
        ours = [event for event in events if self.is_ours(event.get("Resources"))]
        found = [
            Notice(self.name, event["EventType"], self.left(event, answer.date or now))
            for event in ours
        ]
        return min(found, key=lambda it: it.left, default=None)

    @staticmethod
    def machine_name(ask: Ask) -> str:
        """This machine's name; "" if it is not told, which must not cost a notice."""
        try:
            answer = ask(MACHINE)
        except (OSError, Nonsense):
            return ""
        return answer.text.strip().casefold() if answer.status == 200 else ""

    def is_ours(self, resources: Any) -> bool:
        """Whether an event is about this machine; if that cannot be known, it is."""
        if not self.machine or not isinstance(resources, list):
            return True
        return self.machine in [str(it).strip().casefold() for it in resources]

    @staticmethod
    def left(event: Mapping[str, Any], now: datetime) -> float:
        """Seconds until an event may begin: 0 if it has, or does not say when."""
        from email.utils import parsedate_to_datetime  # as slow to import as all else together

        try:
            moment = parsedate_to_datetime(str(event.get("NotBefore") or ""))
            return max((moment - now).total_seconds(), 0.0)
        except (TypeError, ValueError, OverflowError):
            return 0.0


def _ending(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The events that end a machine, and so its processes."""
    events = document.get("Events")
    if not isinstance(events, list):
        raise Nonsense(f"says {_short(json.dumps(document))}")
    for event in events:
        if isinstance(event, dict):
            kind, status = event.get("EventType"), event.get("EventStatus")
            if isinstance(kind, str) and status in ENDING.get(kind, ()):
                yield event


# --- which ----------------------------------------------------------------------------------------------

CLOUDS: Mapping[str, Callable[[], Cloud]] = {"aws": Aws, "gcp": Google, "azure": Azure}

FIRMWARE = ("sys_vendor", "product_name", "chassis_asset_tag", "bios_version")
"""What a machine's firmware says of it, as Linux shows it in /sys/class/dmi/id."""

AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"


def cloud_of(firmware: Mapping[str, str]) -> str | None:
    """Whose machine this is, a key of CLOUDS; None if it is nobody's that is known: a laptop, say."""
    said = {name: firmware.get(name, "").strip() for name in FIRMWARE}
    if said["sys_vendor"] == "Amazon EC2" or said["bios_version"].endswith(".amazon"):
        return "aws"
    if said["product_name"] == "Google Compute Engine":
        return "gcp"
    return "azure" if said["chassis_asset_tag"] == AZURE_TAG else None


def _json(answer: Answer, cloud: str) -> dict[str, Any]:
    """The object in an answer. Raises Nonsense if it is none."""
    if answer.status != 200:
        raise Nonsense(f"says {_short(answer.text, answer.status)}")
    try:
        tree = json.loads(answer.text)
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        raise Nonsense(f"says {_short(answer.text)}, which is not of {cloud}")
    return tree


def _short(text: str, status: int = 200) -> str:
    """What was said, for a line."""
    code = "" if status == 200 else f"{status} "
    return f"{code}{text[:40]!r}"
