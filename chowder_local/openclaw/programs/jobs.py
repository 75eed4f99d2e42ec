"""Reads an agent's own scheduled jobs from OpenClaw's database, whether the agent runs or not."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing
from typing import Any

DATABASE = "state/openclaw.sqlite"
MAX_JOBS = 1000
# Those with a key are OpenClaw's own.
QUERY = (
    "SELECT job_id, name, enabled, job_json FROM cron_jobs WHERE declaration_key IS NULL"
    " ORDER BY sort_order LIMIT ?"
)


def main(request: dict[str, Any]) -> dict[str, Any]:
    path = os.path.join(request["state_dir"], DATABASE)
    if not os.path.exists(path):
        return {"jobs": []}
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            rows = database.execute(QUERY, (MAX_JOBS,)).fetchall()
    except sqlite3.OperationalError as error:
        # Another release of OpenClaw may keep them elsewhere.
        return {"jobs": [], "problem": str(error)}
    return {
        "jobs": [
            {**json.loads(job), "id": job_id, "name": name, "enabled": bool(enabled)}
            for job_id, name, enabled, job in rows
        ]
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.stdin.readline()))) + "\n")
    sys.stdout.flush()
    # The engine may drop what an ended program wrote, so this one ends when its answer was read.
    sys.stdin.read()
