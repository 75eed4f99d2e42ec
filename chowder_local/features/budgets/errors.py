"""Errors of budgets."""

from __future__ import annotations

from chowder_local.core.errors import ChowderError


class BudgetExceeded(ChowderError):
    """A budget is spent, or one message has made as many model calls as a message may. The model
    call is refused, and the agent's turn ends.
    """

    http_status = 402
    refuses_model_call = True
    title = "The budget is spent"
    remedy = (
        "Raise or remove the budget with `PUT` or `DELETE` on `/local/budget` or "
        "`/local/instances/{instance_id}/budget`, or wait until the time that the message names."
    )


class PriceMissing(ChowderError):
    """A model without a known price is called under a budget in USD."""

    http_status = 402
    refuses_model_call = True
    title = "The model's price is not known"
    remedy = "Set the model's price with `CHOWDER_PRICES`, or limit tokens or model calls instead."

    def __init__(self, model: str) -> None:
        name = model or "The called model"
        super().__init__(
            f"{name} has no known price, so it cannot be called under a budget in USD. Set its "
            f"price with CHOWDER_PRICES={model or 'MODEL'}=INPUT/OUTPUT (USD for a million tokens) "
            "and start the server again, or limit tokens or model calls instead of USD."
        )


class BudgetNotFound(ChowderError):
    """The organization or the instance has no budget."""

    http_status = 404
    remedy = "Set one with `PUT` on the same path."
    message = "There is no budget, so model calls are not limited. Set one with PUT."
