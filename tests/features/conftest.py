"""What the tests of features share with those of the kernel."""

from __future__ import annotations

from tests.api.conftest import agent, app, http, shared
from tests.api.dashboard.conftest import visitor
from tests.wire.cli.conftest import serve as serve_answers
from tests.wire.conftest import serve

__all__ = ["agent", "app", "http", "serve", "serve_answers", "shared", "visitor"]
