"""SkyPilot's only door: a script of its own that turns lines of JSON into calls of SkyPilot's SDK.

Started by `child.py`, with any Python that has SkyPilot 0.14; it needs that and the standard library, and
nothing of crown_exp but `door_catalogue.py` beside it. A request is one line, `{"id": 1, "do": "poll",
"with": {…}}`; so is its answer, `{"id": 1, "answer": …}` or `{"id": 1, "error": {"kind": …, "type": …,
"text": …}}`. The first line it writes is `{"id": 0, "answer": {"version": …}}`, or an error of kind `missing`.
What SkyPilot prints goes to stderr.

Kinds of errors, told by their class and never by their words:
    missing      there is no SkyPilot here
    refused      the request was understood and will not be done: quota, no such machine, a bad task
    version      SkyPilot's API server is of another version
    unreachable  SkyPilot's API server does not answer
    unknown      anything else

Calls of SkyPilot that are made (a stand-in needs these):
    sky.__version__, sky.exceptions, sky.get, sky.api_status([request], all_status=), sky.Task(name, run,
    setup, envs, secrets, workdir, num_nodes), task.set_resources, sky.Resources(**fields),
    sky.jobs.launch(task, name=), sky.jobs.queue_v2(refresh=, all_users=, skip_finished=, job_ids=, name_match=,
    fields=), sky.jobs.cancel(job_ids=), sky.jobs.tail_logs(job_id=, follow=, tail=, output_stream=),
    sky.status(names, all_users=)
  who answers: sky.server.common.check_server_healthy_or_start_fn(), .make_authenticated_request("GET",
    "/users"), .get_server_url(), .is_api_server_local(url)
  a person's cluster: sky.utils.cluster_utils.SSHConfigHelper.ssh_cluster_path, a place in the home
  plain clusters: sky.launch(task, cluster_name=, idle_minutes_to_autostop=, down=), sky.job_status(name,
    job_ids), sky.down(name), sky.tail_logs(name, job_id=, follow=, tail=, output_stream=)
  without network: sky.catalog.list_accelerators, sky.catalog.common.get_catalog_path,
    sky.global_user_state.get_cached_enabled_clouds,
    sky.skypilot_config, sky.clouds, sky.utils.registry.CLOUD_REGISTRY, sky.utils.controller_utils,
    Resources.copy, .get_cost, .get_valid_regions_for_launchable
"""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING or __package__:
    from crown_exp.compute.executors.skypilot.door_catalogue import Catalogue, part
else:  # as a script, whose Python may have no crown_exp
    from door_catalogue import Catalogue, part

STARTS_SECONDS = 800.0
LOOK_SECONDS = 5.0
"""How long a new job waits for a controller that somebody starts, and between two looks at it."""

SYSTEM_USER = "skypilot-system"
"""A user that every server has, from the day its database was made."""

FIELDS = ["job_id", "job_name", "status", "recovery_count", "start_at", "failure_reason", "details"]

REFUSED = (
    "ClusterSetUpError", "CloudError", "CloudUserIdentityError", "ClusterOwnerIdentityMismatchError",
    "InvalidCloudConfigs", "InvalidCloudCredentials", "InvalidClusterNameError", "InvalidSkyPilotConfigError",
    "ManagedJobReachedMaxRetriesError", "NoCloudAccessError", "NotSupportedError", "PermissionDeniedError",
    "ProvisionPrechecksError", "ProvisionUnsupportedError", "RequestCancelled", "ResourcesMismatchError",
    "ResourcesUnavailableError", "StorageError", "StorageSpecError", "UserRequestRejectedByPolicy",
)  # fmt: skip
VERSION = ("APIVersionMismatchError", "APINotSupportedError")
UNREACHABLE = (
    "ApiServerConnectionError",
    "ApiServerAuthenticationError",
    "ServerTemporarilyUnavailableError",
)


class Forgotten(ValueError):
    """Of a request to submit nothing is left: SkyPilot's server forgot it, and has no job of its name."""


class NameTaken(ValueError):
    """There is, or was, a job of that name."""


class RequestFailed(ValueError):
    """A request to submit came to its end without a job; whatever it raised, it will raise again."""


class Door(Catalogue):
    """What can be asked. Each method takes plain data and gives plain data.

    A job's handle is `job/<name>/<number>`, or `cluster/<name>/<number>` on a plain cluster, which bears the
    job's name: every server counts from 1, so by a number alone a job would be another's on the next. What is
    not such a handle is not known, nor is a number whose job has another name. The ticket of a request to
    submit is the same with SkyPilot's id of the request.
    """

    def submit(
        self,
        task: dict[str, Any],
        resources: list[dict[str, Any]],
        managed: bool,
        idle_minutes: int,
        again: bool = False,
    ) -> str:
        """Ask for a job. task: arguments of sky.Task; resources: of sky.Resources, in fall-back order.

        again: a plain cluster of that name is used again if it is up; else no name is given twice.
        """
        name = task["name"]
        if not again and (self.named(name) if managed else self.clusters([name])):
            what = f"there is a job called {name} already; expected a new name"
            raise NameTaken(f"{what}, which the same command takes when it is typed again")
        wanted = self.sky.Task(**task)
        choices = [self.sky.Resources(**fields) for fields in resources]
        wanted.set_resources(choices if len(choices) > 1 else choices[0])
        if managed:
            return f"job/{name}/{self.sky.jobs.launch(wanted, name=name)}"
        request = self.sky.launch(
            wanted, cluster_name=name, idle_minutes_to_autostop=idle_minutes, down=True
        )
        return f"cluster/{name}/{request}"

    def handle(self, ticket: str, kept: bool = False) -> str:
        """Wait for the answer to a request to submit; the job of its name, if the server forgot the request.

        kept: a plain cluster stays if it comes to nothing; else it is ended.
        """
        sort, _, rest = ticket.partition("/")
        name, _, request = rest.rpartition("/")
        if sort not in ("job", "cluster") or not name:
            raise Forgotten(f"{ticket!r} is no ticket of a request")
        try:
            # The second is SkyPilot's own handle: its repr raises, so it is never shown.
            numbers, _ = self.got(request)
        except Forgotten:
            return self.left_by(sort, name, request)
        except Exception as error:
            sure = kind(self.sky, error) == "refused"
            if not (sure or self.has_failed(request)):
                raise
            if sort == "cluster" and not kept:
                self.end_cluster(name)  # one whose setup failed would idle till its auto-stop
            if sure:
                raise
            raise RequestFailed(f"{type(error).__name__}: {error}") from None
        number = numbers[0] if isinstance(numbers, (list, tuple)) else numbers
        return f"{sort}/{name}/{number}"

    def has_failed(self, request: str) -> bool:
        """Whether a request is over and came to nothing."""
        try:
            known = self.sky.api_status([request], all_status=True)
        except Exception:
            return False  # not known: what was raised before tells more
        return any(plain(getattr(it, "status", None)) in ("FAILED", "CANCELLED") for it in known)

    def left_by(self, sort: str, name: str, request: str) -> str:
        """What a forgotten request has made: servers forget all requests when they start, and no job."""
        if sort == "job":
            found = [job_handle(record) for record in self.named(name)]
        else:
            found = list(self.on_cluster(name, None))
        if not found:
            raise Forgotten(
                f"SkyPilot's server forgot request {request} for {name}, and has no such job"
            )
        return found[-1]

    def named(self, name: str) -> list[dict[str, Any]]:
        """SkyPilot's records of managed jobs of that name, over or not, oldest first.

        Waits for a controller that is being started, as it is by the first job of several. One that is
        stopped does not tell those that are over.
        """
        until = time.monotonic() + STARTS_SECONDS
        while True:
            try:
                found = self.queue(name_match=name)
                break
            except self.sky.exceptions.ClusterNotUpError:
                if time.monotonic() > until:
                    raise
                time.sleep(LOOK_SECONDS)
        found = [record for record in found if record["job_name"] == name]
        return sorted(found, key=lambda record: int(record["job_id"]))

    def clusters(self, names: list[str] | None = None) -> list[str]:
        """Names of plain clusters."""
        return [c["name"] for c in self.sky.get(self.sky.status(names, all_users=True))]

    def got(self, request: str) -> Any:
        """The answer to a request. Raises Forgotten if the server does not know it, or not any more."""
        try:
            return self.sky.get(request)
        except RuntimeError:  # what `get` raises then is not of a class of its own
            if self.sky.api_status([request], all_status=True):
                raise
            raise Forgotten(f"the server knows no request {request}") from None

    def poll(self, handles: list[str]) -> dict[str, dict[str, Any]]:
        """Records by handle; those that are not known are left out."""
        known = self.managed(handles)
        by_cluster: dict[str, list[int]] = {}
        for cluster, number in numbered(handles, "cluster"):
            by_cluster.setdefault(cluster, []).append(number)
        for cluster, wanted in by_cluster.items():
            known |= self.on_cluster(cluster, wanted)
        return known

    def managed(self, handles: list[str]) -> dict[str, dict[str, Any]]:
        """Records of those managed jobs whose number has the name that the handle says."""
        wanted = [number for _, number in numbered(handles, "job")]
        found = {job_handle(r): r for r in self.queue(job_ids=wanted)} if wanted else {}
        return {handle: found[handle] for handle in handles if handle in found}

    def jobs(self) -> list[dict[str, Any]]:
        """Records of all jobs that may live, with the names of their jobs and their handles."""
        found = [{**r, "handle": job_handle(r)} for r in self.queue(skip_finished=True)]
        for name in self.clusters():
            for handle, record in self.on_cluster(name, None).items():
                found.append({**record, "job_name": name, "handle": handle})
        return found

    def queue(self, **which: Any) -> list[dict[str, Any]]:
        """SkyPilot's records of managed jobs. No controller is ever started, and paid, to ask it.

        One that is stopped has no job under way: it stops itself only when none lives, and SkyPilot says of it
        that all jobs should have finished. So there are none, as where there never was one. Of one that is
        in between, or out of reach, nothing is known: that is raised.
        """
        asked = {"all_users": True, "fields": FIELDS, **which}
        try:
            answer = self.sky.get(self.sky.jobs.queue_v2(refresh=False, **asked))
        except self.sky.exceptions.ClusterNotUpError as error:
            if plain(getattr(error, "cluster_status", None)) in (None, "STOPPED"):
                return []
            raise
        return [{name: plain(getattr(r, name, None)) for name in FIELDS} for r in answer[0]]

    def on_cluster(self, cluster: str, numbers: list[int] | None) -> dict[str, dict[str, Any]]:
        """Records of a plain cluster's jobs, by handle: of its newest if no numbers are given."""
        exceptions = self.sky.exceptions
        try:
            states = self.sky.get(self.sky.job_status(cluster, numbers))
        except exceptions.ClusterDoesNotExist:
            return {}
        except exceptions.ClusterNotUpError:
            return {f"cluster/{cluster}/{n}": {"status": "CLUSTER_NOT_UP"} for n in numbers or []}
        return {
            f"cluster/{cluster}/{number}": {"status": plain(state)}
            for number, state in states.items()
            if state is not None
        }

    def cancel(self, handles: list[str]) -> None:
        """Ask for the end of jobs, and of the plain clusters that carry them; of none with another name."""
        managed = [int(record["job_id"]) for record in self.managed(handles).values()]
        if managed:
            self.sky.get(self.sky.jobs.cancel(job_ids=managed))
        for cluster in {name for name, _ in numbered(handles, "cluster")}:
            self.end_cluster(cluster)

    def end_cluster(self, cluster: str) -> None:
        """Take a plain cluster down; it is no error if there is none."""
        try:
            self.sky.get(self.sky.down(cluster))
        except (self.sky.exceptions.ClusterDoesNotExist, ValueError):
            pass

    def server(self) -> dict[str, str] | None:
        """Who answers: its id, and how a person comes to it; None if it does not tell.

        The id is when its database was made. The user's hash is none: it is of a name and a machine, so every
        home of theirs has the same, and its address is none, as any server may answer there.
        """
        common = part("server.common")
        common.check_server_healthy_or_start_fn()
        answer = common.make_authenticated_request("GET", "/users")
        if answer.status_code in (401, 403, 404):
            return None
        answer.raise_for_status()
        begun = [u.get("created_at") for u in answer.json() if u.get("id") == SYSTEM_USER]
        return {"id": str(begun[0]), "place": place(common)} if begun and begun[0] else None

    def way(self, cluster: str) -> list[str]:
        """SkyPilot's part of ssh's config for a plain cluster, and the home that ~ means in it."""
        noted = part("utils.cluster_utils").SSHConfigHelper.ssh_cluster_path.format(cluster)
        return [Path(noted).expanduser().read_text(encoding="utf-8"), str(Path("~").expanduser())]

    def log(self, handle: str, lines: int) -> str:
        """The last lines of a job's output; "" if it has none yet, or is not known."""
        text = io.StringIO()
        # more than asked for: SkyPilot's own lines around them count too
        how: dict[str, Any] = {"follow": False, "tail": lines + 5, "output_stream": text}
        exceptions = self.sky.exceptions
        try:
            for cluster, number in numbered([handle], "cluster"):
                self.sky.tail_logs(cluster, job_id=number, **how)
            for record in self.managed([handle]).values():
                self.sky.jobs.tail_logs(job_id=int(record["job_id"]), **how)
        except (exceptions.ClusterNotUpError, exceptions.ClusterDoesNotExist):
            pass
        return text.getvalue()


def place(common: Any) -> str:
    """How a person comes to the server that answers: its address without who asks, or this home."""
    url = str(common.get_server_url())
    if common.is_api_server_local(url):
        return f"{socket.gethostname()} with HOME={Path('~').expanduser()}"
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def job_handle(record: dict[str, Any]) -> str:
    """The handle of a managed job."""
    return f"job/{record['job_name']}/{record['job_id']}"


def numbered(handles: list[str], sort: str) -> list[tuple[str, int]]:
    """The names and numbers in those handles that are of a sort, `job` or `cluster`."""
    found = []
    for handle in handles:
        of, _, rest = handle.partition("/")
        name, _, number = rest.rpartition("/")
        if of == sort and name and number.isdecimal():
            found.append((name, int(number)))
    return found


def plain(value: Any) -> Any:
    """A value that JSON knows: the word of an enum, the text of anything odd."""
    value = getattr(value, "value", value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def kind(sky: Any, error: BaseException) -> str:
    """Which kind of error it is, by its class."""
    for name, classes in (("version", VERSION), ("unreachable", UNREACHABLE), ("refused", REFUSED)):
        types = tuple(
            t for t in (getattr(sky.exceptions, c, None) for c in classes) if t is not None
        )
        if isinstance(error, types):
            return name
    if isinstance(error, ConnectionError) or type(error).__module__.startswith("requests."):
        return "unreachable"
    return "refused" if isinstance(error, ValueError) else "unknown"


def answer(door: Door, line: str) -> dict[str, Any]:
    """The answer to one line."""
    asked = json.loads(line)
    try:
        return {"id": asked["id"], "answer": getattr(door, asked["do"])(**asked["with"])}
    except Exception as error:
        told = {"kind": kind(door.sky, error), "type": type(error).__name__, "text": str(error)}
        return {"id": asked["id"], "error": told}


def main() -> None:
    """Answer lines until there are no more."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what SkyPilot prints, or what it starts, must not come between the answers

    def say(told: dict[str, Any]) -> None:
        out.write(json.dumps(told) + "\n")
        out.flush()

    try:
        import sky
    except ImportError as error:
        say(
            {
                "id": 0,
                "error": {"kind": "missing", "type": type(error).__name__, "text": str(error)},
            }
        )
        return
    door = Door(sky)
    say({"id": 0, "answer": {"version": getattr(sky, "__version__", "")}})
    for line in sys.stdin:
        say(answer(door, line))


if __name__ == "__main__":
    main()
