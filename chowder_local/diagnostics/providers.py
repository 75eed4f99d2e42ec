"""What `doctor` finds where other model providers are said to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from chowder_local.core.model_endpoints import models_in
from chowder_local.diagnostics.checks import Finding, Level

if TYPE_CHECKING:
    from chowder_local.core.model_endpoints import Endpoint

TIMEOUT_S = 3.0
SHOWN_MODELS = 8


def of(endpoint: Endpoint, *, is_named: bool) -> Finding:
    """Whether it answers, and with which models; Ollama need not be there unless it was named."""
    subject = f"provider {endpoint.name}"
    if endpoint.is_offline:
        return Finding(subject, Level.OK, "answered by the built-in offline model")
    headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.has_secret else {}
    try:
        answer = httpx.get(f"{endpoint.url}/models", headers=headers, timeout=TIMEOUT_S)
    except httpx.HTTPError as failure:
        if not is_named:
            words = f"not running at {endpoint.url}; models {endpoint.name}/… need it"
            return Finding(subject, Level.OK, words)
        why = str(failure) or type(failure).__name__
        words = f"nothing answers at {endpoint.url}: {why}"
        return Finding(subject, Level.WARN, words, endpoint.cure)
    if answer.is_success and (models := models_in(answer.content)) is not None:
        shown = ", ".join(f"{endpoint.name}/{model}" for model in models[:SHOWN_MODELS])
        more = f" and {len(models) - SHOWN_MODELS} more" if len(models) > SHOWN_MODELS else ""
        return Finding(subject, Level.OK, f"{endpoint.url} has {shown or 'no models'}{more}")
    words = f"{endpoint.url}/models answers {answer.status_code}, and lists no models"
    cure = "If messages fail too: such a URL mostly ends in /v1, and a key may be wanted."
    return Finding(subject, Level.WARN, words, cure)
