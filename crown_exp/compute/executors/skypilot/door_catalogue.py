"""The part of the door that asks SkyPilot's catalogues what is sold, all of it without network.

Of the same script as `door.py`, which says what it may call: only that and the standard library.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class Catalogue:
    """What clouds sell, and which of them may be used."""

    def __init__(self, sky: Any) -> None:
        self.sky = sky

    def enabled(self) -> list[str]:
        """Clouds that the last `sky check` found usable, from SkyPilot's own notes: nothing is asked."""
        workspace = part("skypilot_config").get_active_workspace()
        compute = part("clouds").CloudCapability.COMPUTE
        noted = part("global_user_state").get_cached_enabled_clouds(compute, workspace)
        return sorted(str(cloud).lower() for cloud in noted)

    def catalogued(self) -> list[str]:
        """Clouds whose catalogue of machines is here, whether they may be used or not."""
        return sorted(found.parent.name for found in _prices("aws").parent.parent.glob("*/vms.csv"))

    def accelerators(self, clouds: list[str]) -> dict[str, Any]:
        """All `names` of accelerators in catalogues of clouds, and `unread` as in `offers`."""
        names: set[str] = set()
        unread: dict[str, str] = {}
        with _without_network():
            for cloud in clouds:
                with _noted(cloud, unread):
                    names |= set(
                        part("catalog").list_accelerators(clouds=cloud, require_price=False)
                    )
        return {"names": sorted(names), "unread": unread}

    def offers(self, resources: dict[str, Any], clouds: list[str], nodes: int) -> dict[str, Any]:
        """What clouds sell for one set of fields of sky.Resources: `sold`, with $/h of one machine.

        unread: by cloud, why it could not be said what it sells; "" if its catalogue is not here.
        """
        sold: list[dict[str, Any]] = []
        unread: dict[str, str] = {}
        with _without_network():
            for name in clouds:
                with _noted(name, unread):
                    sold += self._sold(name, resources, nodes)
        return {"sold": sold, "unread": unread}

    def _sold(self, name: str, fields: dict[str, Any], nodes: int) -> list[dict[str, Any]]:
        cloud = part("utils.registry").CLOUD_REGISTRY.from_str(name)
        wanted = self.sky.Resources(**fields).copy(cloud=cloud)
        machines = cloud.get_feasible_launchable_resources(wanted, num_nodes=nodes).resources_list
        return [
            {
                "cloud": name,
                "region": region.name,
                "machine": machine.instance_type,
                "usd_per_hour": machine.copy(region=region.name).get_cost(3600),
            }
            for machine in machines
            for region in machine.get_valid_regions_for_launchable()
        ]

    def controller(self) -> dict[str, Any] | None:
        """The fields of sky.Resources of the machine that managed jobs would start; None if they start none."""
        control = part("utils.controller_utils")
        if control.is_jobs_consolidation_mode():
            return None
        with _without_network():
            chosen = control.get_controller_resources(control.Controllers.JOBS_CONTROLLER, [])
        return {"cpus": str(next(iter(chosen)).cpus), "memory": str(next(iter(chosen)).memory)}


def part(name: str) -> Any:
    """A module of SkyPilot's."""
    return importlib.import_module(f"sky.{name}")


def _prices(cloud: str) -> Path:
    return Path(part("catalog.common").get_catalog_path(f"{cloud}/vms.csv"))


@contextlib.contextmanager
def _noted(cloud: str, unread: dict[str, str]) -> Iterator[None]:
    """Inside, one cloud is asked; what it raises is noted for it, and the others are asked all the same."""
    try:
        yield
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        sys.stderr.write(f"{cloud}: {told}\n")
        unread[cloud] = f"{told}, from {_prices(cloud)}" if _prices(cloud).exists() else ""


@contextlib.contextmanager
def _without_network() -> Iterator[None]:
    """Inside, catalogues are those that are here: SkyPilot would renew old ones, and wait for that for ever."""
    common = part("catalog.common")
    kept = common.requests, common.is_catalog_modified

    def get(**_: Any) -> None:
        raise kept[0].exceptions.ConnectionError("not here, and nothing is fetched for a plan")

    common.requests = SimpleNamespace(get=get, exceptions=kept[0].exceptions)
    common.is_catalog_modified = lambda _: True  # such a one is left alone
    try:
        yield
    finally:
        common.requests, common.is_catalog_modified = kept
