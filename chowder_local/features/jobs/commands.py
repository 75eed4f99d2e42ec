"""`jobs`: what an agent does on a schedule, and what it has done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chowder_local.cli.commands import Row, choose, noun, short_id
from chowder_local.cli.output import format_time
from chowder_local.client import NULL
from chowder_local.core.wording import parse_duration

if TYPE_CHECKING:
    from chowder_local.client import Client

SECONDS = 19
"""The length of a time to the second."""
DELIVERY = "deliver_url", "deliver_channel", "deliver_to"


def _time(text: str | None) -> str:
    return format_time(text, SECONDS)


def _when(job: dict[str, Any]) -> str:
    schedule = job["schedule"]
    if schedule["kind"] == "at":
        return f"at {_time(schedule['at'])}"
    if schedule["kind"] == "every":
        return f"every {schedule['every_s']:g} s"
    if schedule["kind"] == "cron":
        return f"{schedule['cron']} {schedule['timezone'] or 'UTC'}"
    return str(schedule["kind"])


def _last_run(job: dict[str, Any]) -> str:
    if job["running_since"] is not None:
        return "runs now"
    last = job["last_run"]
    return "-" if last is None else f"{last['outcome'] or 'ended'} {_time(last['at'])}"


def _schedule(options: dict[str, Any]) -> dict[str, Any] | None:
    """The schedule that the options give; None if they give none."""
    times = {name: options.pop(name) for name in ("at", "every_s", "cron")}
    zone = options.pop("timezone")
    given = {name: value for name, value in times.items() if value is not None}
    if not given and zone is None:
        return None
    if len(given) != 1:
        raise click.UsageError("Give one of --at, --every and --cron.")
    (name,) = given
    kind = name.removesuffix("_s")
    return {"kind": kind, **given, **({} if zone is None else {"timezone": zone})}


def _delivery(options: dict[str, Any]) -> dict[str, Any] | None:
    url, channel, to = (options.pop(each) for each in DELIVERY)
    given = {"url": url, "channel": channel, "to": to}
    return {name: value for name, value in given.items() if value is not None} or None


def _create(
    client: Client, instance_id: str, name: str, message: str, **options: Any
) -> dict[str, Any]:
    schedule, deliver = _schedule(options), _delivery(options)
    if schedule is None:
        raise click.UsageError("Give one of --at, --every and --cron.")
    return client.create_job(
        instance_id,
        name,
        schedule,
        message,
        deliver=deliver,
        is_enabled=not options.pop("is_off"),
        **options,
    )


def _change(client: Client, instance_id: str, job_id: str, **options: Any) -> dict[str, Any]:
    schedule, deliver = _schedule(options), _delivery(options)
    if deliver is not None and not any(deliver.values()):
        deliver = NULL
    options |= {each: NULL for each in ("session", "model") if options[each] == ""}
    return client.update_job(instance_id, job_id, schedule=schedule, deliver=deliver, **options)


def _wake(client: Client, instance_id: str, text: str | None) -> None:
    client.wake_instance(instance_id, **({} if text is None else {"text": text}))


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else parse_duration(value).total_seconds()
    except ValueError as problem:
        raise click.BadParameter(f"{problem}.", ctx, param) from None


_OPTIONS = (
    click.option("--at", help="Due once, at this ISO time, such as 2026-12-24T09:00."),
    click.option(
        "--every",
        "every_s",
        callback=_seconds,
        metavar="DURATION",
        help="Due each time so much time passes: 90s, 1h30m.",
    ),
    click.option("--cron", help='Due by a cron expression, such as "0 9 * * 1-5".'),
    click.option("--timezone", help="Zone of --at and --cron, such as Europe/Berlin."),
    click.option("--session", help="Run in this session, not in one of its own each time."),
    click.option("--model", help="Id of a model, as in messages."),
    click.option("--deliver-url", help="Post the answers there."),
    click.option("--deliver-channel", help="Send the answers by this channel."),
    click.option("--deliver-to", help="Who gets them in the channel."),
)


def _find(client: Client, reference: str, given: dict[str, Any]) -> dict[str, Any]:
    return choose(client.jobs(given["instance"]["id"]), reference, "job")


# fmt: off
jobs = noun("jobs", """List, create, change and run an agent's scheduled jobs.

    INSTANCE is an instance's name, its id, or the beginning of its id; JOB is likewise a job's.
    """, {
    "ls": Row("jobs", "instance", "List an agent's jobs, OpenClaw's own as well.",
        columns={
            "ID": short_id,
            "NAME": "name",
            "KIND": "kind",
            "DUE": _when,
            "NEXT": lambda job: _time(job["next_run_at"]) if job["is_enabled"] else "off",
            "LAST": _last_run,
        },
        wide={"WHOLE ID": "id", "SESSION": "session", "MESSAGE": "message"},
        if_empty='It has no jobs. Create one with: chowder-local jobs create INSTANCE NAME MESSAGE '
            '--every 1h'),
    "show": Row("job", "instance job", "Print a job with all its members, as JSON."),
    "create": Row(_create, "instance name message",
        """Create a job, and print its id.

        MESSAGE is what the agent is told when the job is due.
        """,
        options=(*_OPTIONS, click.option("--off", "is_off", is_flag=True, help="Switched off.")),
        line="{id}"),
    "change": Row(_change, "instance job",
        """Change a job.

        An empty --session, --model, --deliver-url or --deliver-channel takes the former one away.
        """,
        options=(
            click.option("--name", help="Another name."),
            click.option("--message", help="What the agent is told."),
            click.option("--on/--off", "is_enabled", default=None, help="Switch it on or off."),
            *_OPTIONS,
        ),
        line=lambda job: f"{job['name']}: {_when(job)}, next {_time(job['next_run_at'])}"),
    "rm": Row("delete_job", "instance job", "Delete a job.", asks="Delete the job {job[name]}?",
        done="{job[name]} is deleted."),
    "run": Row("run_job", "instance job",
        """Run a job now, whether it is due or not.

        A forced run passes OpenClaw's scheduler by: to try that, too, give the job a near --at, or
        move the agent's clock to its next due time.
        """, done="{job[name]} runs. See what it answers with: chowder-local jobs runs"),
    "runs": Row("job_runs", "instance job", "List a job's latest runs that have ended.",
        options=(click.option("-n", "--limit", type=int, default=20, show_default=True,
            help="Number of latest runs."),),
        columns={
            "BEGAN": lambda run: _time(run["began_at"]),
            "TOOK": lambda run: f"{run['took_s']:.1f} s",
            "OUTCOME": lambda run: run["outcome"] or "-",
            "FORCED": lambda run: "yes" if run["is_forced"] else "",
            "ANSWER": lambda run: (run["error"] or run["answer"] or "")[:60],
        },
        wide={
            "COST": lambda run: "-" if run["cost_usd"] is None else f"${run['cost_usd']:.4f}",
            "MODEL CALLS": lambda run: " ".join(run["model_calls"]),
            "TRACE": "trace_id",
            "SESSION KEY": "session_key",
        },
        if_empty="{job[name]} has not run."),
    "wake": Row(_wake, "instance",
        "Wake an agent, with TEXT if given: it acts as in a heartbeat, in its main session.",
        options=(click.argument("text", required=False),),
        done="{instance[name]} is awake."),
}, {"job": _find})
# fmt: on
