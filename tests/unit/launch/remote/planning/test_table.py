"""A plan as people read it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from crown_exp.compute.base import Candidate, Target
from crown_exp.config.letters import columns
from crown_exp.launch.remote.base import Fate, Plan, Planned
from crown_exp.launch.remote.planning.plan_json import plan_json
from crown_exp.launch.remote.planning.table import ROWS, SHOWN, plan_lines
from tests.unit.launch.remote.plans import A100, CLUSTER, H100, HERE, WATCHER, candidate, planned


def page(
    *runs: Planned, width: int = 80, colour: bool = False, controller: Candidate | None = None, **fields: Any
) -> str:  # fmt: skip
    runs = tuple(replace(run, controller=controller) for run in runs)
    lines = list(plan_lines(Plan(runs, **fields), width=width, colour=colour))
    return "\n".join(lines)


def test_a_sweep_over_targets() -> None:
    runs = (
        planned(1, hours=0.42, name="digits lr=0.1"),
        planned(2, H100, name="digits lr=0.2"),
        planned(3, HERE, hours=12.123, runs=1, name="digits lr=0.3"),
        planned(4, fate=Fate.DONE, name="digits lr=0.4"),
        planned(5, hours=0.42, fate=Fate.RESUMED, name="digits lr=0.5"),
    )
    spent = {"run_usd": 0.3, "month_usd": 33.3}
    told = page(*runs, controller=WATCHER, caps={"run_usd": 20.0, "month_usd": 100.0}, spent=spent)
    assert told == (
        "#  run                 what       target     machine            $/h  hours     $\n"
        "1  digits lr=0.1       new        a100_spot  A100:1 spot gcp   1.15   0.42  0.48\n"
        "2  digits lr=0.2       new        h100       H100:1 gcp       11.06      ?     ?\n"
        "3  digits lr=0.3       new        local      this one             -   12.1     -\n"
        "4  r261122-k7f3q2 di…  done       a100_spot  -                    -      -     -\n"
        "5  r261122-k7f3q2 di…  to resume  a100_spot  A100:1 spot gcp   1.15   0.42  0.48\n"
        "\n"
        "a100_spot: tried in this order\n"
        "  1  A100:1  gcp us-central1   a2-highgpu-1g  spot  $1.15/h\n"
        "  2  A100:1  gcp europe-west4  a2-highgpu-1g  spot  $1.25/h\n"
        "   0.42 h each: the median of 3 earlier runs of digits\n"
        "\n"
        "h100: tried in this order\n"
        "  1  H100:1  gcp us-central1  a3-highgpu-1g    $11.06/h\n"
        "   hours unknown: nothing like digits has run on it\n"
        "\n"
        "expected    unknown for 1 run; the others $0.97; $13.36/h while all run at once\n"
        "controller  $0.19/h beside that (aws us-east-1 m6i.xlarge); SkyPilot starts one\n"
        "            if none is up, and stops it when it idles\n"
        "caps        budget.run_usd=20 ($0.30 of it spent): reached after 1.78 h at\n"
        "            $11.06/h\n"
        "            budget.month_usd=100 ($33.30 of it spent): reached after 4.99 h at\n"
        "            $13.36/h\n"
        "\n"
        "here        1 run needs this machine awake to the end\n"
        "elsewhere   3 runs go on when this machine is off: come back with crown-exp logs\n"
        "            -f"
    )


def test_one_run_without_caps_on_a_wide_screen() -> None:
    assert page(planned(hours=2.0, runs=1), width=120) == (
        "#  run    what  target     machine                       $/h  hours     $\n"
        "1  run 1  new   a100_spot  A100:1 spot gcp us-central1  1.15   2.00  2.30\n"
        "\n"
        "a100_spot: tried in this order\n"
        "  1  A100:1  gcp us-central1   a2-highgpu-1g  spot  $1.15/h\n"
        "  2  A100:1  gcp europe-west4  a2-highgpu-1g  spot  $1.25/h\n"
        "   2.00 h: as the earlier run of digits\n"
        "\n"
        "expected    $2.30; $1.15/h\n"
        "caps        no cap is set: budget.run_usd=..., budget.sweep_usd=..., budget.month_usd=... "
        "end runs that cost more\n"
        "\n"
        "elsewhere   1 run goes on when this machine is off: come back with crown-exp logs -f"
    )


def test_what_nobody_can_guess() -> None:
    assert "expected    unknown; $1.15/h\n" in page(planned())
    both = page(planned(), planned(2, H100))
    assert "expected    unknown; $12.21/h while all run at once\n" in both


def test_what_is_not_paid_for() -> None:
    told = page(planned(1, CLUSTER, hours=1.0), planned(2, HERE), planned(3, HERE))
    assert "cost        nothing: no machine of these has a price" in told
    assert "here        2 runs, one after the other, need this machine awake to the end" in told
    assert "elsewhere   1 run goes on" in told
    assert "cap" not in told


def test_a_free_machine_before_paid_ones_is_said_to_be_no_promise() -> None:
    free = candidate("", 0.0, "", cloud="kubernetes")
    candidates = (free, candidate("us-central1", 1.15), candidate("europe-west4", 1.25))
    told = page(planned(candidates=candidates, hours=2.0), width=120, caps={"run_usd": 10.0})
    assert "cost" not in told.split("expected")[0].splitlines()[-1]
    assert "expected    $0.00; $0.00/h\n" in told
    assert (
        "or else     1 run on machines for $1.15 to $1.25/h, if none that costs nothing is to be had\n"
    ) in told
    assert "budget.run_usd=10: reached after 8.70 h at $1.15/h" in told
    off = [replace(it, enabled=False) for it in candidates[1:]]
    assert "nothing: no machine of these has a price" in page(planned(candidates=(free, *off)))


def test_where_no_machine_is_known_nothing_is_said_to_be_free() -> None:
    told = page(planned(candidates=(), hours=1.0), refused=("compute.accelerators: no A1000",))
    assert told.splitlines()[1].split()[-4:] == ["known", "-", "1.00", "?"]
    assert "cost        unknown: no machine is known for 1 run\n" in told
    assert "nothing:" not in told
    both = page(planned(1, hours=2.0), planned(2, candidates=()), planned(3, CLUSTER))
    assert "expected    unknown for 1 run; the others $2.30; $1.15/h while" in both
    assert "cost        unknown: no machine is known for 1 run" in page(
        planned(candidates=()), planned(2, CLUSTER)
    )


def test_a_cluster_that_is_not_enabled_is_not_said_to_be_free() -> None:
    off = candidate("crown", 0.0, "", cloud="slurm", enabled=False)
    told = page(planned(hours=1.0, candidates=(off,)), refused=("slurm is not enabled",))
    assert told.splitlines()[1].split()[-3:] == ["-", "1.00", "?"]
    assert "cost        unknown: no machine that is enabled is known for 1 run\n" in told
    assert "-  not enabled: sky check slurm" in told
    assert "0.00 " not in told and "nothing:" not in told


def test_nor_is_it_to_machines() -> None:
    off = candidate("crown", 0.0, "", cloud="slurm", enabled=False)
    one = plan_json(Plan((planned(hours=1.0, candidates=(off,)),)))
    assert (one["usd"], one["usd_per_hour"], one["runs"][0]["usd"]) == (None, None, None)
    on = plan_json(Plan((planned(hours=1.0, candidates=(replace(off, enabled=True),)),)))
    assert (on["usd"], on["usd_per_hour"], on["runs"][0]["usd"]) == (0.0, 0.0, 0.0)


def test_nobody_is_told_how_to_come_back_to_what_is_refused() -> None:
    told = page(planned(), planned(2, HERE), refused=("the store: nobody sees it",))
    assert told.splitlines()[-1] == "refused     nothing of it would be launched; why is told below"
    assert "logs -f" not in told and "awake" not in told


def test_what_may_go_wrong_later_stands_below_the_money() -> None:
    told = page(planned(hours=1.0), warnings=("keys end",)).splitlines()
    assert told[told.index("warning     keys end") + 1] == ""
    assert told.index("warning     keys end") > told.index("expected    $1.15; $1.15/h")


def test_what_is_done() -> None:
    told = page(planned(1, fate=Fate.DONE), planned(2, HERE, fate=Fate.DONE))
    assert told.splitlines()[-2:] == ["", "next        nothing: all of it is done"]
    assert "tried" not in told and "$" not in told.splitlines()[-1]


def test_what_runs_already_is_not_paid_again() -> None:
    told = page(planned(1, fate=Fate.RUNNING))
    assert "running" in told
    assert "expected" not in told
    assert "elsewhere   1 run goes on" in told


def test_many_runs_that_are_alike_share_a_line() -> None:
    runs = [planned(number, A100 if number % 3 else H100, hours=0.5) for number in range(1, 25)]
    told = page(*runs)
    assert told.splitlines()[:3] == [
        "#  run                  what  target     machine            $/h  hours      $",
        "1  16 runs: run 1, ...  new   a100_spot  A100:1 spot gcp   1.15   0.50   9.20",
        "3  8 runs: run 3, ...   new   h100       H100:1 gcp       11.06   0.50  44.24",
    ]
    assert "expected    $53.44; $106.88/h while all run at once" in told
    few = page(*runs[:ROWS])
    assert "runs:" not in few and "run 20 " in few


def test_of_many_machines_the_first_are_shown_and_what_is_not_enabled_is_marked() -> None:
    sold = [candidate(f"region{number}", 1.0 + number / 10) for number in range(SHOWN)]
    away = [candidate("far", usd, cloud="aws", enabled=False) for usd in (9.0, 12.0)]
    told = page(planned(candidates=(*sold[:2], *away, *sold[2:])))
    assert "  3  A100:1  aws far      a2-highgpu-1g  spot   $9.00/h  not enabled: sky ch" in told
    assert "   and 2 more, $1.30 to $1.40/h" in told
    assert "region4" not in told
    assert "   and 1 more, $12.00/h" in page(planned(candidates=(*sold, away[1])))


def test_a_target_that_nothing_is_sold_for() -> None:
    told = page(planned(candidates=()))
    assert "none is known" in told
    assert "no machine is known that it could be given" in told


def test_what_caps_will_end() -> None:
    told = page(
        planned(1, hours=2.0), planned(2, H100, hours=2.0), width=200,
        caps={"run_usd": 20.0, "sweep_usd": 12.0, "month_usd": 50.0}, spent={"month_usd": 60.0},
    )  # fmt: skip
    assert (
        "budget.run_usd=20: reached after 1.81 h at $11.06/h; "
        "more is expected, so 1 run will be saved and ended then\n"
    ) in told
    assert (
        "budget.sweep_usd=12: reached after 0.98 h at $12.21/h; "
        "more is expected, so runs will be saved and ended then\n"
    ) in told
    assert "budget.month_usd=50 is reached ($60.00 of it spent)\n" in told


def test_colours_take_no_room() -> None:
    runs = (planned(1, hours=1.0), planned(2, fate=Fate.DONE), planned(3, fate=Fate.RUNNING))
    coloured = page(*runs, colour=True)
    assert re.sub(r"\x1b\[\d+m", "", coloured) == page(*runs)
    assert "\x1b[32mdone\x1b[0m" in coloured


TEXT = st.text(max_size=60)
PRICE = st.none() | st.floats(0.0, 9_999.0)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        TEXT, TEXT, TEXT, TEXT, st.booleans(), PRICE, st.sampled_from([None, True, False]),
    ),
    max_size=8,
)  # fmt: skip
TARGETS = st.builds(
    Target, TEXT, st.sampled_from(["local", "skypilot", "slurm"]), nodes=st.integers(1, 9)
)
HOURS = st.none() | st.floats(0.001, 99_999.0)
RUNS = st.builds(
    lambda target, hours, fate, name, candidates: planned(
        1, target, hours, fate, name=name, candidates=tuple(candidates)
    ),
    TARGETS, HOURS, st.sampled_from(Fate), TEXT, CANDIDATES,
)  # fmt: skip
USD = st.dictionaries(
    st.sampled_from(["run_usd", "sweep_usd", "month_usd"]), st.floats(0.01, 1e6), max_size=3
)


@settings(max_examples=60)
@given(
    st.lists(RUNS, max_size=4),
    st.none() | CANDIDATES.map(lambda found: found[0] if found else None),
    USD, USD, st.integers(80, 160), st.booleans(),
)  # fmt: skip
def test_no_line_is_wider_than_the_screen_and_none_is_obeyed_by_it(
    runs: list[Planned],
    controller: Candidate | None,
    caps: dict[str, float | None],
    spent: dict[str, float],
    width: int,
    many: bool,
) -> None:
    runs = [replace(run, controller=controller) for run in runs]
    plan = Plan(tuple(runs * (ROWS if many else 1)), caps, spent)
    for line in plan_lines(plan, width=width, colour=False):
        assert columns(line) <= width
        assert line.isprintable()
