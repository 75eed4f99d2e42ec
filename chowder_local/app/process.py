"""The server process, one for each data directory, from its lock to its exit code."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import secrets
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import uvloop
from filelock import FileLock, Timeout

from chowder_local import __version__
from chowder_local.app.effective_settings import effective_settings
from chowder_local.app.server import Machine, open_services
from chowder_local.core import logs
from chowder_local.core.data_dir import make_private_folder, touch_private, unusable, write_private
from chowder_local.core.errors.process import DataDirLocked
from chowder_local.core.model_endpoints import default_model_keys
from chowder_local.core.settings import exposure_warning
from chowder_local.engine.connection import find_engine
from chowder_local.engine.image_recipe import expected_tag
from chowder_local.engine.images import find_ca_bundle
from chowder_local.engine.self_container import is_in_container, process_namespace
from chowder_local.http.listener import bound_socket, listener, raise_descriptor_limit

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

    from starlette.types import ASGIApp

    from chowder_local.core.settings import Settings
    from chowder_local.services import Services

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 0.5
STOP_GRACE_S = 3
"""How long requests may go on when the server stops."""


def run(
    settings: Settings, env: Mapping[str, str], on_ready: Callable[[], object] | None = None
) -> int:
    """Serves until SIGINT or SIGTERM, and returns the exit code.

    Calls `on_ready` once, when clients can connect. Raises ChowderError if the server cannot start.
    """
    logs.configure(settings.log_level, settings.log_format, settings.log_file)
    raise_descriptor_limit()
    with _held_data_dir(settings), bound_socket(settings.host, settings.port) as bound:
        machine = _machine(settings, env)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            effective = effective_settings(
                settings,
                env,
                image=machine.image,
                engine_url=machine.engine_address.url,
                salt=secrets.token_hex(16),
            )
            runner.run(_serve(settings, machine, bound, effective, on_ready))
    return 0


def _machine(settings: Settings, env: Mapping[str, str]) -> Machine:
    ca_bundle = find_ca_bundle(settings.ca_bundle, env)
    return Machine(
        engine_address=find_engine(env),
        image=expected_tag(settings),
        model_keys=default_model_keys(env, settings.offline),
        endpoints=settings.endpoints(env),
        ca_bundle=None if ca_bundle is None else ca_bundle.read_bytes(),
    )


@contextmanager
def _held_data_dir(settings: Settings) -> Iterator[None]:
    """Locks the data directory. Raises DataDirLocked if it is in use, else DataDirUnusable."""
    # A command that checks whether a server runs takes the lock for a moment.
    lock = FileLock(settings.lock_file, timeout=LOCK_TIMEOUT_S)
    try:
        make_private_folder(settings.data_dir)
        touch_private(settings.lock_file)
        lock.acquire()
    except Timeout:
        raise DataDirLocked(str(settings.data_dir)) from None
    except OSError as failure:
        raise unusable(settings.data_dir, failure) from failure
    with lock:
        yield


async def _serve(
    settings: Settings,
    machine: Machine,
    bound: socket.socket,
    effective: Mapping[str, Any],
    on_ready: Callable[[], object] | None,
) -> None:
    async with open_services(settings, machine) as services:
        signalled = asyncio.Event()
        _on_signals(signalled.set)
        with _run_file(settings, effective):
            log.info("chowder-local %s listens on %s", __version__, settings.root_url)
            if not settings.is_on_loopback:
                is_inside = is_in_container()
                log.warning("%s", exposure_warning(settings.host, is_in_container=is_inside))
            if on_ready is not None:
                on_ready()
            # Clients connect from here on; what they send waits until the routes are imported,
            # which takes a quarter of the start.
            app = await asyncio.to_thread(_load_application, services)
            server = listener(app, grace_s=STOP_GRACE_S, shutdown=services.shutdown)
            _on_signals(server.stop)
            if not signalled.is_set():
                await server.serve(sockets=[bound])
            log.info("stopping; agents stay as they are")


def _load_application(services: Services) -> ASGIApp:
    # See `chowder_local.app.__main__`.
    gc.disable()
    from chowder_local.app.application import application

    app = application(services)
    # Objects made so far stay; collecting among them would delay requests by about 50 ms.
    gc.freeze()
    gc.enable()
    return app


def _on_signals(stop: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


@contextmanager
def _run_file(settings: Settings, effective: Mapping[str, Any]) -> Iterator[None]:
    """Writes the run file, which tells the CLI about this server, for the time of the block."""
    facts = {
        "pid": os.getpid(),
        "process_namespace": process_namespace(),
        "host": settings.host,
        "port": settings.port,
        "base_url": settings.root_url,
        "public_url": settings.client_url,
        "version": __version__,
        # `doctor` reads these, as it does not know the options of `up`. The URLs contain no secret.
        "providers": settings.providers,
        # Another `up` compares these with its own settings.
        "settings": effective,
    }
    write_private(settings.run_file, json.dumps(facts).encode())
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            settings.run_file.replace(settings.last_run_file)
