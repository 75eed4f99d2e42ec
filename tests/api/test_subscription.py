"""Tiers: the subscription, the pages that change it, and instance limits."""

from __future__ import annotations

import asyncio
import html
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from chowder_local.core.domain import InstanceStatus, Tier

if TYPE_CHECKING:
    import httpx

    from tests.api.conftest import Api


async def link(http: Api, page: str, **body: str) -> str:
    """The path of a checkout or portal link."""
    answer = await http.post(f"/v1/subscription/{page}", json=body or None)
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["url"]
    assert set(answer.json()) == {"url"}
    assert url.startswith(f"http://server.test/local/{page}?session=")
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


async def get_subscription(http: Api) -> dict[str, Any]:
    view: dict[str, Any] = (await http.get("/v1/subscription")).json()
    return view


def forms(page: httpx.Response) -> dict[str, str]:
    """The targets of a page's forms, by the text on their buttons."""
    result = re.findall(
        r'<form method="post" action="([^"]+)"><button>([^<]+)</button></form>', page.text
    )
    return {html.unescape(words): html.unescape(address) for address, words in result}


def heading(page: httpx.Response) -> str:
    result = re.search(r"<h1>(.*)</h1>", page.text)
    assert result
    return result[1]


async def submitted(http: Api, address: str) -> httpx.Response:
    """The page after a click, requested without a key."""
    answer = await http.post(
        address, key=None, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert (answer.status_code, answer.content) == (303, b"")
    return await http.get(answer.headers["Location"], key=None)


async def test_the_subscription_has_the_tier_and_its_use(http: Api) -> None:
    await http.world.created()
    assert await get_subscription(http) == {
        "tier": "crab",
        "instance_limit": 10,
        "instance_count": 1,
        "stripe_customer_id": None,
        "stripe_subscription_id": None,
    }


async def test_a_checkout_takes_one_click(http: Api) -> None:
    page = await http.get(await link(http, "checkout", tier="lobster"), key=None)
    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert heading(page) == "Move to lobster"
    assert "<strong>Kitchen</strong> is on crab. 0 of 10 instances in use." in page.text
    assert (await get_subscription(http))["tier"] == "crab"
    ((words, address),) = forms(page).items()
    assert words == "Pay nothing and move to lobster"
    done = await submitted(http, address)
    assert heading(done) == "Kitchen is on lobster"
    assert "0 of 500 instances in use." in done.text
    assert forms(done) == {}
    after = await get_subscription(http)
    assert (after["tier"], after["instance_limit"]) == ("lobster", 500)
    assert after["stripe_customer_id"].startswith("cus_local_")
    assert after["stripe_subscription_id"].startswith("sub_local_")
    assert (await http.get("/v1/organization")).json()["subscription_tier"] == "lobster"


async def test_a_second_click_changes_nothing(http: Api) -> None:
    page = await http.get(await link(http, "checkout", tier="lobster"), key=None)
    (address,) = forms(page).values()
    await submitted(http, address)
    first = await get_subscription(http)
    await submitted(http, address)
    assert await get_subscription(http) == first


async def test_the_portal_offers_every_other_tier(http: Api) -> None:
    page = await http.get(await link(http, "portal"), key=None)
    assert heading(page) == "Kitchen is on crab"
    assert set(forms(page)) == {"Move to shrimp", "Move to lobster", "Move to whale"}
    assert page.text.count('aria-current="true"') == 1
    for limit in ("1 instance.", "10 instances.", "500 instances.", "any number of instances."):
        assert limit in page.text
    for tier in (Tier.WHALE, Tier.LOBSTER, Tier.CRAB, Tier.SHRIMP):
        page = await submitted(http, forms(page)[f"Move to {tier}"])
        assert heading(page) == f"Kitchen is on {tier}"
        assert (await get_subscription(http))["tier"] == tier
    # The last change ended the subscription; the customer id is kept.
    after = await get_subscription(http)
    assert after["stripe_subscription_id"] is None
    assert after["stripe_customer_id"].startswith("cus_local_")


async def test_a_lower_tier_keeps_existing_instances_and_refuses_new_ones(http: Api) -> None:
    instances = [await http.world.created() for _ in range(3)]
    page = await http.get(await link(http, "portal"), key=None)
    assert (
        "1 instance. All 3 stay, but you cannot create new ones until there is room." in page.text
    )
    done = await submitted(http, forms(page)["Move to shrimp"])
    assert "3 of 1 instance in use." in done.text
    assert len((await http.get("/v1/instances")).json()) == 3
    answer = await http.post("/v1/instances", json={"name": "Bea"})
    assert answer.status_code == 402
    assert answer.json() == {"detail": "Instance limit reached (3/1). Upgrade your subscription."}
    for instance in instances:
        assert (await http.get(f"/v1/instances/{instance.id}")).json()["status"] == "running"


@pytest.mark.parametrize("tier", ["shrimp", "whale", "", "CRAB", None, 1])
async def test_a_checkout_needs_a_paid_tier(http: Api, tier: Any) -> None:
    answer = await http.post("/v1/subscription/checkout", json={"tier": tier})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "tier"]


async def test_a_portal_link_needs_no_body(http: Api) -> None:
    for body in (b"", b"{}", b"not json"):
        answer = await http.post("/v1/subscription/portal", content=body)
        assert answer.status_code == 200


@pytest.mark.parametrize("page", ["checkout", "portal"])
@pytest.mark.parametrize("session", ["", "session=", "session=made-up", "session=%00%ff"])
async def test_an_invalid_link_is_an_error_page(http: Api, page: str, session: str) -> None:
    for method in ("GET", "POST"):
        answer = await http.call(method, f"/local/{page}?{session}&tier=whale", key=None)
        assert answer.status_code == 400
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert heading(answer) == "This link does not work"
        assert "POST /v1/subscription/checkout" in answer.text
    assert (await get_subscription(http))["tier"] == "crab"


async def test_a_link_expires(http: Api) -> None:
    address = await link(http, "checkout", tier="lobster")
    http.world.clock.advance(3601)
    for method in ("GET", "POST"):
        assert (await http.call(method, address, key=None)).status_code == 400
    assert (await get_subscription(http))["tier"] == "crab"


@pytest.mark.parametrize("tier", ["", "&tier=", "&tier=minnow", "&tier=CRAB"])
async def test_the_portal_refuses_unknown_tiers(http: Api, tier: str) -> None:
    address = await link(http, "portal")
    assert (await http.post(f"{address}{tier}", key=None)).status_code == 400
    assert (await get_subscription(http))["tier"] == "crab"


@pytest.mark.parametrize("page", ["checkout", "portal"])
async def test_a_page_runs_no_script_and_is_not_cached(http: Api, page: str) -> None:
    name = "<script>alert('&\"')</script>"
    await http.patch("/v1/organization", json={"name": name})
    body = {"tier": "lobster"} if page == "checkout" else {}
    answer = await http.get(await link(http, page, **body), key=None)
    assert "<script" not in answer.text
    assert name in html.unescape(answer.text)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe-inline" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_link_has_the_host_that_the_client_used(http: Api) -> None:
    headers = {"Host": "chowder.internal:8080"}
    answer = await http.post("/v1/subscription/portal", headers=headers)
    assert answer.json()["url"].startswith("http://chowder.internal:8080/local/portal?session=")


async def test_fifty_concurrent_creates_stop_exactly_at_the_limit(http: Api) -> None:
    # A stopped instance counts, a deleted one does not.
    await http.world.placed(InstanceStatus.STOPPED, 1)
    await http.world.placed(InstanceStatus.ERROR, 2)
    await http.world.placed(InstanceStatus.TERMINATED, 3)
    answers = await asyncio.gather(
        *(http.post("/v1/instances", json={"name": f"agent {n}"}) for n in range(50))
    )
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(201), statuses.count(402)) == (8, 42)
    refused = {answer.json()["detail"] for answer in answers if answer.status_code == 402}
    assert refused == {"Instance limit reached (10/10). Upgrade your subscription."}
    assert len((await http.get("/v1/instances")).json()) == 10
    assert (await get_subscription(http))["instance_count"] == 10


async def test_deleting_an_instance_makes_room_for_another(http: Api) -> None:
    key = await http.other_key()

    async def create() -> int:
        answer = await http.post("/v1/instances", json={"name": "Ada"}, key=key)
        return answer.status_code

    assert [await create(), await create()] == [201, 402]
    (instance,) = (await http.get("/v1/instances", key=key)).json()
    assert (await http.call("DELETE", f"/v1/instances/{instance['id']}", key=key)).is_success
    assert [await create(), await create()] == [201, 402]
