"""`python -m chowder_local` is the command line."""

from __future__ import annotations

from chowder_local.cli.main import main

if __name__ == "__main__":
    main()
