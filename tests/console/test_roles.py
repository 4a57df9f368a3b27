"""Who may call what: every route of the API has a row here."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from service.core.access import UserRole, least_role, may_call
from tests.console.people import Browser, cookie_of
from tests.console.site import TOKEN, Site

VIEWER, OPERATOR, ADMIN = UserRole.VIEWER, UserRole.OPERATOR, UserRole.ADMIN
NO_ID = "00000000-0000-0000-0000-000000000000"
OPEN = {("POST", "/signin"), ("POST", "/signout")}

LEAST: Mapping[tuple[str, str], UserRole] = {
    ("GET", "/api/me"): VIEWER,
    ("GET", "/api/openapi.json"): VIEWER,
    ("GET", "/api/ws"): VIEWER,
    ("GET", "/api/sessions"): VIEWER,
    ("POST", "/api/sessions"): OPERATOR,
    ("GET", "/api/sessions/{session}"): VIEWER,
    ("PATCH", "/api/sessions/{session}"): OPERATOR,
    ("DELETE", "/api/sessions/{session}"): OPERATOR,
    ("POST", "/api/sessions/{session}/archive"): OPERATOR,
    ("POST", "/api/sessions/{session}/restore"): OPERATOR,
    ("POST", "/api/sessions/{session}/pin"): OPERATOR,
    ("POST", "/api/sessions/{session}/unpin"): OPERATOR,
    ("POST", "/api/sessions/{session}/read"): OPERATOR,
    ("GET", "/api/sessions/{session}/export"): VIEWER,
    ("GET", "/api/search"): VIEWER,
    ("GET", "/api/sessions/{session}/messages"): VIEWER,
    ("POST", "/api/sessions/{session}/messages"): OPERATOR,
    ("POST", "/api/sessions/{session}/render"): OPERATOR,
    ("POST", "/api/sessions/{session}/compact"): OPERATOR,
    ("POST", "/api/sessions/{session}/clear"): OPERATOR,
    ("POST", "/api/sessions/{session}/stop"): OPERATOR,
    ("POST", "/api/sessions/{session}/interrupt"): OPERATOR,
    ("GET", "/api/sessions/{session}/questions"): VIEWER,
    ("POST", "/api/sessions/{session}/answer"): OPERATOR,
    ("GET", "/api/sessions/{session}/events"): VIEWER,
    ("GET", "/api/sessions/{session}/state"): VIEWER,
    ("PATCH", "/api/sessions/{session}/state"): OPERATOR,
    ("GET", "/api/sessions/{session}/voices"): VIEWER,
    ("POST", "/api/sessions/{session}/voices"): OPERATOR,
    ("PATCH", "/api/sessions/{session}/voices/{voice}"): OPERATOR,
    ("GET", "/api/sessions/{session}/investigation"): VIEWER,
    ("PATCH", "/api/sessions/{session}/investigation"): OPERATOR,
    ("GET", "/api/sessions/{session}/preview"): VIEWER,
    ("POST", "/api/sessions/{session}/start"): OPERATOR,
    ("POST", "/api/sessions/{session}/extend"): OPERATOR,
    ("GET", "/api/sessions/{session}/dependencies"): VIEWER,
    ("PUT", "/api/sessions/{session}/dependencies"): OPERATOR,
    ("GET", "/api/sessions/{session}/disposition"): VIEWER,
    ("PUT", "/api/sessions/{session}/disposition"): OPERATOR,
    ("POST", "/api/sessions/{session}/disposition/confirm"): OPERATOR,
    ("GET", "/api/sessions/{session}/results"): VIEWER,
    ("GET", "/api/sessions/{session}/results/{result}"): VIEWER,
    ("PATCH", "/api/sessions/{session}/results/{result}"): OPERATOR,
    ("DELETE", "/api/sessions/{session}/results/{result}"): OPERATOR,
    ("GET", "/api/sessions/{session}/results/{result}/data"): VIEWER,
    ("GET", "/api/sessions/{session}/results/{result}/csv"): VIEWER,
    ("GET", "/api/turns/{turn}"): VIEWER,
    ("POST", "/api/turns/{turn}/stop"): OPERATOR,
    ("GET", "/api/agents"): VIEWER,
    ("GET", "/api/attachments/{attachment}"): VIEWER,
    ("GET", "/api/compositions"): VIEWER,
    ("POST", "/api/compositions"): OPERATOR,
    ("GET", "/api/compositions/{composition}"): VIEWER,
    ("PUT", "/api/compositions/{composition}"): OPERATOR,
    ("DELETE", "/api/compositions/{composition}"): OPERATOR,
    ("GET", "/api/people"): VIEWER,
    ("GET", "/api/projects"): VIEWER,
    ("POST", "/api/projects"): OPERATOR,
    ("GET", "/api/projects/{project}"): VIEWER,
    ("PATCH", "/api/projects/{project}"): OPERATOR,
    ("DELETE", "/api/projects/{project}"): OPERATOR,
    ("PUT", "/api/projects/{project}/members/{name}"): OPERATOR,
    ("DELETE", "/api/projects/{project}/members/{name}"): OPERATOR,
    ("PUT", "/api/projects/{project}/order"): OPERATOR,
    ("POST", "/api/projects/{project}/sessions"): OPERATOR,
    ("POST", "/api/projects/{project}/preview"): OPERATOR,
    ("POST", "/api/ask"): OPERATOR,
    ("POST", "/api/projects/{project}/template"): OPERATOR,
    ("GET", "/api/templates"): VIEWER,
    ("POST", "/api/templates/check"): OPERATOR,
    ("GET", "/api/templates/{template}"): VIEWER,
    ("PUT", "/api/templates/{template}"): OPERATOR,
    ("DELETE", "/api/templates/{template}"): OPERATOR,
    ("GET", "/api/templates/{template}/file"): VIEWER,
    ("POST", "/api/templates/{template}/instantiate"): OPERATOR,
    ("POST", "/api/templates/{template}/scan"): OPERATOR,
    ("GET", "/api/tasks"): VIEWER,
    ("POST", "/api/tasks"): OPERATOR,
    ("GET", "/api/tasks/{task}"): VIEWER,
    ("DELETE", "/api/tasks/{task}"): OPERATOR,
    ("POST", "/api/tasks/{task}/run"): OPERATOR,
    ("POST", "/api/tasks/{task}/enable"): OPERATOR,
    ("POST", "/api/tasks/{task}/disable"): OPERATOR,
    ("GET", "/api/tasks/{task}/occurrences"): VIEWER,
    ("GET", "/api/triggers"): VIEWER,
    ("POST", "/api/webhooks/{webhook}/ring"): OPERATOR,
    ("POST", "/api/telegram/allow"): OPERATOR,
    ("DELETE", "/api/telegram/allow/{id}"): OPERATOR,
    ("GET", "/api/deliveries"): VIEWER,
    ("POST", "/api/deliveries/{delivery}/replay"): OPERATOR,
    ("GET", "/api/inbox"): VIEWER,
    ("POST", "/api/inbox/replay"): OPERATOR,
    ("GET", "/api/usage"): VIEWER,
    ("GET", "/api/audit"): ADMIN,
}


def registered(site: Site) -> set[tuple[str, str]]:
    """Method and path of every route that is served."""
    return {(route.method, route.path) for route in site.api.routes()}


def test_no_route_is_without_a_row(site: Site) -> None:
    """Whoever adds a route says here who may call it."""
    assert set(LEAST) == registered(site) - OPEN


@pytest.mark.parametrize(("method", "path"), LEAST)
def test_the_rule_says_what_the_rows_say(method: str, path: str) -> None:
    """Viewers look, operators do, admins read who did what."""
    assert least_role(method, path) is LEAST[method, path]


@pytest.mark.parametrize("role", UserRole)
async def test_every_route_asks_for_its_role(site: Site, role: UserRole) -> None:
    """Who may not is refused by each route itself, before it looks at anything else."""
    browser = Browser(site, await cookie_of(site, "ann", role))
    expected = {call for call in LEAST if not may_call(role, *call)}

    refused = set()
    for method, path in LEAST:
        if path != "/api/sessions/{session}/events":
            answer = await browser.call(method, _filled(path), {} if method != "GET" else None)
            if answer.status == 403:
                refused.add((method, path))

    assert refused == expected


async def test_every_route_asks_who_it_is(site: Site) -> None:
    """Without a credential none of them answers."""
    answers = {
        (method, path): (await site.call(method, _filled(path), token=None)).status
        for method, path in LEAST
    }

    assert answers == dict.fromkeys(LEAST, 401)


async def test_a_refusal_says_what_it_takes(site: Site) -> None:
    """So that one knows whom to ask."""
    browser = Browser(site, await cookie_of(site, "ann", VIEWER))

    answer = await browser.call("DELETE", "/api/tasks/morning")

    assert answer.json["detail"] == "this takes the role operator; yours is viewer"


async def test_a_bearer_is_an_admin(site: Site) -> None:
    """Tokens are made at the command line of the service itself."""
    answer = await site.call("GET", "/api/audit", token=TOKEN)

    assert answer.status == 200


@pytest.mark.parametrize("path", ["/api/users", "/api/users/{user}", "/api/audit", "/api/audit/x"])
def test_people_and_the_audit_are_for_admins(path: str) -> None:
    """Also to look at."""
    assert [may_call(role, "GET", path) for role in UserRole] == [False, False, True]


def test_an_area_is_no_prefix_of_a_word() -> None:
    """Another path may begin like one that is for admins only."""
    assert least_role("GET", "/api/users-online") is VIEWER


def _filled(path: str) -> str:
    for name in ("session", "turn", "voice", "attachment", "delivery"):
        path = path.replace(f"{{{name}}}", NO_ID)
    return path.replace("{", "").replace("}", "")
