"""`chowder-local` with other constants: `hurried_server.py '{"module:NAME": 1}' up`."""

import json
import sys
from importlib import import_module

constants = json.loads(sys.argv.pop(1))
for place, value in constants.items():
    module, _, name = place.partition(":")
    setattr(import_module(f"chowder_local.{module}"), name, value)

from chowder_local.cli.main import main  # noqa: E402 - it reads the constants

main()
