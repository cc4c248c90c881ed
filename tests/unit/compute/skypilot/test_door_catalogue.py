"""What the door reads in catalogues, and what it says of those that it cannot read."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from crown_exp.compute.executors.skypilot import door_catalogue
from crown_exp.compute.executors.skypilot.door_catalogue import Catalogue


class Machine:
    """One that is sold in two regions."""

    instance_type = "p4"

    def __init__(self, region: str = "") -> None:
        self.region = region

    def copy(self, region: str) -> "Machine":
        return Machine(region)

    def get_cost(self, seconds: float) -> float:
        return seconds / 3600 * (2.0 if self.region == "east" else 1.0)

    def get_valid_regions_for_launchable(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="east"), SimpleNamespace(name="west")]


class Cloud:
    """One whose catalogue is as its name says."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get_feasible_launchable_resources(self, wanted: Any, num_nodes: int) -> SimpleNamespace:
        if self.name != "good":
            listed(self.name)
        return SimpleNamespace(resources_list=[Machine()])


class Resources:
    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def copy(self, **other: Any) -> "Resources":
        return Resources(**self.fields, **other)


def listed(clouds: str, require_price: bool = False) -> dict[str, Any]:
    if clouds == "away":
        raise ConnectionError("not here")
    if clouds == "broken":
        raise ValueError("Error tokenizing\n data")
    return {"A100": []}


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """Of SkyPilot with three clouds: the catalogue of one is not here, that of another is broken."""
    for cloud in ("good", "broken"):
        (tmp_path / cloud).mkdir()
        (tmp_path / cloud / "vms.csv").touch()
    common = ModuleType("common")
    vars(common).update(
        requests=SimpleNamespace(exceptions=SimpleNamespace(ConnectionError=ConnectionError)),
        is_catalog_modified=lambda _: False,
        get_catalog_path=lambda name: str(tmp_path / name),
    )
    parts: dict[str, Any] = {
        "catalog.common": common,
        "catalog": SimpleNamespace(list_accelerators=listed),
        "utils.registry": SimpleNamespace(CLOUD_REGISTRY=SimpleNamespace(from_str=Cloud)),
    }
    monkeypatch.setattr(door_catalogue, "part", parts.__getitem__)
    return Catalogue(SimpleNamespace(Resources=Resources))


@pytest.mark.parametrize(
    "ask",
    [
        lambda it, clouds: it.accelerators(clouds),
        lambda it, clouds: it.offers({"cpus": "4+"}, clouds, 1),
    ],
)
def test_a_catalogue_that_is_not_here_is_told_apart_from_one_that_is_broken(
    catalogue: Catalogue, tmp_path: Path, ask: Callable[[Catalogue, list[str]], dict[str, Any]]
) -> None:
    told = ask(catalogue, ["away", "broken", "good"])["unread"]
    file = tmp_path / "broken" / "vms.csv"
    assert told == {"away": "", "broken": f"ValueError: Error tokenizing data, from {file}"}


def test_the_others_are_asked_all_the_same(catalogue: Catalogue) -> None:
    clouds = ["away", "broken", "good"]
    assert catalogue.accelerators(clouds)["names"] == ["A100"]
    sold = catalogue.offers({}, clouds, 1)["sold"]
    assert [(row["cloud"], row["region"], row["usd_per_hour"]) for row in sold] == [
        ("good", "east", 2.0),
        ("good", "west", 1.0),
    ]
    assert catalogue.catalogued() == ["broken", "good"]
