"""What `checkpoint.init_from` names: a run's checkpoint, or a file of weights. Pure.

Once a run is recorded the text has its final form, which names the same bytes for good: `<id>@<step>`,
`<store>/runs/<id>@<step>`, or the path or URL of a file with the first letters of its sha256, as
`/data/net.pt@9f86d081884c7d65`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from crown_exp.errors import ConfigError
from crown_exp.folder.urls import HOLDS_CREDENTIALS, RUN_FOLDER, holds_credentials

KEY, MAP = "checkpoint.init_from", "checkpoint.init_map"

ENDS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""How the names of files of weights end."""

LATEST, BEST = "latest", "best"
PIN = 16
"""Letters of a file's sha256 that stand behind its name."""

_PINNED = re.compile(rf"(.+)@([0-9a-f]{{{PIN}}})")
_EXPECTED = (
    "expected a run (k7f), its step (k7f@500, k7f@best), the folder of a run (<store>/runs/<id>@500), "
    "or a .safetensors or .pt file"
)


@dataclass(frozen=True, slots=True)
class RunSource:
    """A checkpoint of a run.

    store: of the folder that was typed; None is the store of the run that is made. run: an id or its
    beginning, or `latest`. step: None is the newest. best: the one that its `checkpoint.keep_best` keeps.
    """

    store: str | None
    run: str
    step: int | None = None
    best: bool = False

    def __str__(self) -> str:
        """As it is typed."""
        at = BEST if self.best else LATEST if self.step is None else self.step
        return f"{self.store}/runs/{self.run}@{at}" if self.store else f"{self.run}@{at}"


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file. url: its path, or the URL of a store and the path in it. pin: of what it must hold; "" if any."""

    url: str
    pin: str = ""

    def __str__(self) -> str:
        """As it is typed."""
        return f"{self.url}@{self.pin}" if self.pin else self.url

    @property
    def is_remote(self) -> bool:
        """Whether a store has it, and not this machine's file system."""
        return "://" in self.url and not self.url.lower().startswith("file://")


def parse_source(text: str, where: str = KEY) -> RunSource | FileSource:
    """Read the text. Raises ConfigError naming `where` for what is neither."""
    text = text.strip()
    match = _PINNED.fullmatch(text)
    bare, pin = (match[1], match[2]) if match else (text, "")
    if holds_credentials(bare):
        raise ConfigError.of(where, HOLDS_CREDENTIALS)
    if bare.lower().endswith(ENDS):
        return FileSource(bare, pin)
    run, at, step = text.rpartition("@")
    if not at or "/" in step:
        run, step = text, LATEST
    folder = RUN_FOLDER.fullmatch(run)
    if folder is None and "/" in run:
        return FileSource(bare, pin)
    store, run = (folder[1], folder[2]) if folder else (None, run)
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", run, re.ASCII):
        raise ConfigError.of(where, f"{_EXPECTED}; got {text!r}")
    if step in (LATEST, BEST):
        return RunSource(store, run, best=step == BEST)
    if not (step.isdecimal() and step.isascii() and len(step) <= 12):
        what = f"expected RUN@STEP, RUN@latest or RUN@best, got {step!r} for a step"
        raise ConfigError.of(where, what)
    return RunSource(store, run, int(step))
