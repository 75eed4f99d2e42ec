"""Renames on purpose what shortcuts rely on, in the OpenClaw of the image in which this runs."""

from __future__ import annotations

from pathlib import Path

DIST = Path("/opt/openclaw/node_modules/openclaw/dist")
NAMES = {
    # Tables.
    "schema_meta": "schema_facts",
    "session_nodes": "session_knots",
    "session_windows": "session_panes",
    "trajectory_": "itinerary_",
    "transcript_events": "transcript_entries",
    "worker_session_placements": "worker_session_places",
    # A process.
    'process.title="openclaw-gateway"': 'process.title="openclaw-door"',
    # Texts.
    "## Tooling": "## Utensils",
    "[Current message - respond to this]": "[The message to answer]",
    "return`Runtime: ${": "return`Environment: ${",
    "Tool execution delegated to client": "Tool execution left to the client",
}


def rename(dist: Path) -> set[str]:
    """The names that were found, and are there no longer."""
    found = set()
    for path in dist.rglob("*"):
        if path.suffix not in {".js", ".mjs", ".cjs"} or not path.is_file() or path.is_symlink():
            continue
        # A long string may go on in the next line.
        text = former = path.read_text(errors="surrogateescape").replace("\\\n", "")
        for name, other in NAMES.items():
            if name in text:
                found.add(name)
                text = text.replace(name, other)
        if text != former:
            path.write_text(text, errors="surrogateescape")
    return found


if __name__ == "__main__":
    if missing := NAMES.keys() - rename(DIST):
        raise SystemExit(f"there is nothing to rename: {sorted(missing)}")
