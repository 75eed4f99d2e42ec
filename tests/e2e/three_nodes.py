"""Three machines of a swarm, as far as one machine can be three; needs Linux and root.

Each is a dockerd in namespaces of its own: network, mounts and host name. A bridge joins them.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.errors import DockerException
from docker.types import Healthcheck, Resources

from chowder_local.core.domain import AGENT_MEMORY_BYTES
from chowder_local.core.errors.sandboxes import EngineUnavailable
from chowder_local.engine.connection import EngineAddress, open_client
from chowder_local.engine.server_container import KEY_FILE, read_file, server_tag
from tests.e2e.serving import POLL, bare_environment
from tests.e2e.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import docker
    from docker.models.containers import Container

STACK = Path(__file__).parents[2] / "docker" / "stack.yaml"
NAME = "chowder"
SECRET = "chowder_worker"
SERVER, WORKER = "chowder_server", "chowder_worker"
NODE_FOLDER = "/run/chowder-node"
"""Where each dockerd and its containers see the folder of its socket."""
COPY_TIMEOUT_S = 600.0
END_TIMEOUT_S = 60.0
LOG_LINES = 200
HEARTBEAT_NS = 20_000_000_000
"""As the guide says."""
BRIDGE = "chowder-nodes"
BRIDGE_ADDRESS = "10.213.77.254"


def run(*command: str) -> str:
    """What a command prints; it has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


class NodeEngine:
    """The dockerd of one node, which a test may end as it likes."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.name = f"node{number}"
        self.address = f"10.213.77.{number}"
        self.folder = folder / self.name
        self.data_root = self.folder / "data"
        self._namespace = f"chowder-{self.name}"
        self._process: subprocess.Popen[bytes] | None = None
        self.client: docker.DockerClient | None = None

    def connect(self) -> None:
        """Gives it a network namespace on the bridge."""
        self.folder.mkdir(parents=True, exist_ok=True)
        inner, outer = "eth0", f"chowder-n{self.number}"
        run("ip", "netns", "add", self._namespace)
        run(
            "ip",
            "link",
            "add",
            outer,
            "type",
            "veth",
            "peer",
            "name",
            inner,
            "netns",
            self._namespace,
        )
        self.plug()
        within = ("ip", "-n", self._namespace)
        run(*within, "link", "set", "lo", "up")
        run(*within, "addr", "add", f"{self.address}/24", "dev", inner)
        run(*within, "link", "set", inner, "up")
        run(*within, "route", "add", "default", "via", BRIDGE_ADDRESS)

    def plug(self) -> None:
        """Joins it to the other nodes."""
        run("ip", "link", "set", f"chowder-n{self.number}", "master", BRIDGE, "up")

    def unplug(self) -> None:
        """Cuts its cable."""
        run("ip", "link", "set", f"chowder-n{self.number}", "down")

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        (self.folder / "dockerd.pid").unlink(missing_ok=True)
        command = (
            f"hostname {self.name}; mkdir -p {NODE_FOLDER}; "
            f"mount --bind {self.folder} {NODE_FOLDER}; exec dockerd "
            f"--host=unix://{NODE_FOLDER}/engine.sock --data-root={self.data_root} "
            f"--exec-root={self.folder}/exec --pidfile={self.folder}/dockerd.pid "
            f"--cgroup-parent=/{self._namespace} --insecure-registry={BRIDGE_ADDRESS}/24"
        )
        # `ip netns exec` would hide the mounts of the cgroups.
        namespaces = ["nsenter", f"--net=/var/run/netns/{self._namespace}", "unshare", "-m", "-u"]
        with (self.folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*namespaces, "sh", "-c", command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        eventually(self._answers, f"{self.name} answers")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends it, and waits until it has."""
        if self.client is not None:
            self.client.close()
            self.client = None
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(END_TIMEOUT_S)
            self._process = None

    def remove(self) -> None:
        """Removes what it leaves."""
        for command in (
            ["netns", "del", self._namespace],
            ["link", "del", f"chowder-n{self.number}"],
        ):
            subprocess.run(["ip", *command], capture_output=True, check=False)
        self._end_containers()
        for place in self._cgroups():
            for each in sorted([place, *place.glob("**/*/")], reverse=True):
                # Its engine's helpers remove some of them.
                with suppress(FileNotFoundError):
                    each.rmdir()

    def die(self) -> None:
        """Ends all that runs on it at once, as a power cut does."""
        self.unplug()
        self.end(signal.SIGKILL)
        self._end_containers()
        self.plug()

    def _cgroups(self) -> list[Path]:
        root = Path("/sys/fs/cgroup")
        return [*root.glob(self._namespace), *root.glob(f"*/{self._namespace}")]

    def _end_containers(self) -> None:
        """Those that a killed dockerd leaves go on without it."""

        def are_gone() -> bool:
            # What is frozen does not die.
            for place in self._cgroups():
                for frozen in place.glob("**/freezer.state"):
                    frozen.write_text("THAWED")
                for frozen in place.glob("**/cgroup.freeze"):
                    frozen.write_text("0")
            files = (file for place in self._cgroups() for file in place.glob("**/cgroup.procs"))
            pids = {int(pid) for file in files for pid in file.read_text().split()}
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not pids

        eventually(are_gone, f"nothing runs on {self.name}")

    @property
    def url(self) -> str:
        """Its address."""
        return f"unix://{self.folder}/engine.sock"

    def container_of(self, service: str) -> Container | None:
        """The running container of a service, if it has one."""
        filters: dict[str, str | list[str] | bool] = {
            "label": f"com.docker.swarm.service.name={service}"
        }
        return next(iter(self.engine.containers.list(filters=filters)), None)

    @property
    def engine(self) -> docker.DockerClient:
        assert self.client is not None
        return self.client

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "dockerd.log").read_text()[-2000:]
        try:
            self.client = open_client(EngineAddress(self.url, "the test"))
        except EngineUnavailable:
            return False
        return True


class ThreeNodes:
    """A swarm whose nodes have the server's image, and all but the last one the sandbox image."""

    def __init__(self, folder: Path, image: str) -> None:
        self.nodes = [NodeEngine(number, folder) for number in (1, 2, 3)]
        self._image = image

    @property
    def manager(self) -> NodeEngine:
        return self.nodes[0]

    def start(self) -> None:
        """Makes the machines, and joins them to a swarm."""
        self.remove()
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "addr", "add", f"{BRIDGE_ADDRESS}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        for rule in self._rules("-I"):
            run(*rule)
        for node in self.nodes:
            node.connect()
        self._fill()
        for node in self.nodes:
            node.start()
        # The server has to bring it.
        self.nodes[-1].engine.images.remove(self._image)
        swarm = self.manager.engine.swarm
        swarm.init(advertise_addr=self.manager.address, dispatcher_heartbeat_period=HEARTBEAT_NS)
        swarm.reload()
        token = swarm.attrs["JoinTokens"]["Worker"]
        for node in self.nodes[1:]:
            node.engine.swarm.join([f"{self.manager.address}:2377"], token)

    def deploy(self, settings: Mapping[str, str], image: str | None = None) -> None:
        """Deploys the stack as its file and these settings say, or updates it."""
        if not self.manager.engine.secrets.list(filters={"name": SECRET}):
            secret = secrets.token_hex(32).encode()
            self.manager.engine.secrets.create(name=SECRET, data=secret)
        env = {
            "CHOWDER_ENGINE_SOCKET": f"{NODE_FOLDER}/engine.sock",
            # By its tag, each node would ask a registry first.
            "CHOWDER_SERVER_IMAGE": self.image_id(image or server_tag()),
        }
        environment = {"CHOWDER_ALLOWED_HOSTS": self.manager.address, **settings}
        mine = self.manager.folder / "mine.yaml"
        mine.write_text(json.dumps({"services": {"server": {"environment": environment}}}))
        command = [
            "docker", "-H", self.manager.url,
            "stack", "deploy", "--detach", "--resolve-image", "never",
            "-c", str(STACK), "-c", str(mine), NAME,
        ]  # fmt: skip
        done = subprocess.run(
            command,
            env=bare_environment() | env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def image_id(self, tag: str) -> str:
        """The id of an image, which all nodes have."""
        return str(self.manager.engine.images.get(tag).id)

    def spread(self, tag: str) -> None:
        """Brings an image of the manager to the other nodes."""
        for node in self.nodes[1:]:
            self._copy(["-H", self.manager.url, "save", tag], node)

    def server_key(self) -> str | None:
        """The key of the server's default organization, once it has made one."""
        server = self.manager.container_of(SERVER)
        return None if server is None else read_file(server, KEY_FILE)

    def logs(self) -> Iterator[tuple[str, str]]:
        """What the server and its workers have said last, on the machines that answer."""
        for node in self.nodes:
            with suppress(DockerException, OSError):
                for service in (SERVER, WORKER):
                    if node.client is not None and (container := node.container_of(service)):
                        lines = container.logs(tail=LOG_LINES).decode(errors="replace").splitlines()
                        tail = "\n".join(line for line in lines if not POLL.search(line))
                        yield f"{service} on {node.name}", tail

    @contextmanager
    def drained(self, node: NodeEngine) -> Iterator[None]:
        """Takes what runs there away from it, for the block."""
        known = self.manager.engine.nodes.get(node.engine.info()["Swarm"]["NodeID"])

        def update(availability: str) -> None:
            known.reload()
            known.update({**known.attrs["Spec"], "Availability": availability})

        update("drain")
        try:
            yield
        finally:
            update("active")

    @contextmanager
    def filled(self, agents: Mapping[NodeEngine, int], free_bytes: int) -> Iterator[None]:
        """Leaves so much memory on each machine, beside its agents, for the block."""
        # The SDK's types leave Swarm out.
        services: Any = self.manager.engine.services
        image_id = self.image_id(server_tag())
        fillers = []
        for node in self.nodes:
            facts = node.engine.info()
            reserved = agents[node] * AGENT_MEMORY_BYTES
            filler = services.create(
                # By its tag, each node would ask a registry first.
                image_id,
                name=f"filler-{node.number}",
                command=["sleep", "infinity"],
                # By the image's own check, it would never be healthy.
                healthcheck=Healthcheck(test=["NONE"]),
                init=True,
                constraints=[f"node.id=={facts['Swarm']['NodeID']}"],
                resources=Resources(mem_reservation=facts["MemTotal"] - reserved - free_bytes),
            )
            fillers.append(filler)
        try:
            for filler in fillers:
                eventually(partial(_runs, filler), "the memory is taken")
            yield
        finally:
            for filler in fillers:
                filler.remove()
            for node in self.nodes:
                eventually(partial(_is_free, node), "the memory is given back")

    def remove(self) -> None:
        """Ends and removes all of it, and what an earlier run has left."""
        for node in self.nodes:
            node.end()
            node.remove()
        for rule in self._rules("-D"):
            subprocess.run(rule, capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True, check=False)

    def _fill(self) -> None:
        """Gives all nodes the images: the first by a copy, the others by hard links."""
        first = self.manager
        first.start()
        # In one go, because they share layers.
        self._copy(["save", server_tag(), self._image], first)
        first.end()
        for node in self.nodes[1:]:
            run("cp", "-al", str(first.data_root), str(node.data_root))
            # What makes an engine known, and what it writes to in place.
            for name in ("network", "buildkit", "containerd", "swarm", "volumes"):
                shutil.rmtree(node.data_root / name, ignore_errors=True)
            (node.data_root / "engine-id").unlink(missing_ok=True)

    def _copy(self, save: list[str], target: NodeEngine) -> None:
        load = ["docker", "-H", target.url, "load", "--quiet"]
        with subprocess.Popen(["docker", *save], stdout=subprocess.PIPE) as saving:
            subprocess.run(load, stdin=saving.stdout, check=True, timeout=COPY_TIMEOUT_S)

    def _rules(self, action: str) -> Iterator[list[str]]:
        # The machine's own engine drops what it does not know, between bridged machines too.
        for side in ("-i", "-o"):
            yield ["iptables", action, "FORWARD", side, BRIDGE, "-j", "ACCEPT"]


def _is_free(node: NodeEngine) -> bool:
    return node.container_of(f"filler-{node.number}") is None


def _runs(service: Any) -> bool:
    return any(each["Status"]["State"] == "running" for each in service.tasks())
