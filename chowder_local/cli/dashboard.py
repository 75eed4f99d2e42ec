"""`dashboard`: a link that signs in to the dashboard, so that nobody copies keys."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from chowder_local.cli.context import Context, data_dir_option
from chowder_local.cli.output import note, say
from chowder_local.cli.server_process import find_running
from chowder_local.core.errors.process import ServerNotRunning


@click.command()
@data_dir_option
@click.option(
    "--open",
    "is_opened",
    is_flag=True,
    help="Open it in this machine's browser; whoever may list its processes can see it, too.",
)
@click.pass_obj
def dashboard(context: Context, is_opened: bool) -> None:
    """Print a link that signs in to the dashboard, once and within two minutes.

    It is for the default organization, or for that of CHOWDER_KEY; the key itself is not in it.
    """
    from chowder_local.accounts.dashboard_sessions import sign_in_link
    from chowder_local.core.secrets import SecretBox

    context.require_local("dashboard")
    settings = context.settings()
    running = find_running(settings)
    if running is None:
        raise ServerNotRunning(settings.root_url)
    key = context.key()
    code = sign_in_link(SecretBox.load(settings.secret_file), key, datetime.now(UTC))
    # Behind the #, where a browser keeps it: it is in no request, log or referrer.
    address = f"{running.public_url}/sign-in#code={code}"
    say(address)
    if is_opened and click.launch(address) != 0:
        note("No browser could be opened; open the link yourself.")
