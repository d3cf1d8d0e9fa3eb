"""OAuth 2.0 in the sandbox: the consent page, codes with PKCE, and what X refuses of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from oauthlib.oauth2 import WebApplicationClient
from sandbox_server import Server, StartServer

from app.sandbox.settings import Keys
from app.sandbox.store import Store
from app.sandbox.tokens import CODE_LIFE_MS, SCOPES, InvalidGrant, Tokens

CALLBACK = "http://127.0.0.1:8766/callback"
KEYS = Keys()
BASIC = (KEYS.client_id, KEYS.client_secret)
CLIENT = WebApplicationClient(KEYS.client_id)
VERIFIER = CLIENT.create_code_verifier(64)
CHALLENGE = CLIENT.create_code_challenge(VERIFIER, "S256")
ASKED = {
    "response_type": "code",
    "client_id": KEYS.client_id,
    "redirect_uri": CALLBACK,
    "scope": SCOPES,
    "state": "a state & more",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


def page(server: Server, **changes: str) -> requests.Response:
    asked = {name: value for name, value in (ASKED | changes).items() if value}
    return requests.get(f"{server.base_url}/i/oauth2/authorize", params=asked, timeout=20)


def consent(server: Server, decision: str = "allow", **changes: str) -> dict[str, str]:
    """What the browser is sent back with."""
    form = ASKED | changes | {"decision": decision}
    sent = requests.post(f"{server.base_url}/i/oauth2/authorize", data=form, allow_redirects=False, timeout=20)
    assert sent.status_code == 303
    assert sent.headers["Location"].startswith(form["redirect_uri"])
    return dict(parse_qsl(urlsplit(sent.headers["Location"]).query))


def exchange(server: Server, code: str, auth: tuple[str, str] | None = BASIC, **changes: str) -> tuple[int, Any]:
    body = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
    given = {name: value for name, value in (body | changes).items() if value}
    answer = requests.post(f"{server.base_url}/2/oauth2/token", data=given, auth=auth, timeout=20)
    return answer.status_code, answer.json()


def opens(server: Server, token: str) -> bool:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{server.base_url}/2/users/me", headers=headers, timeout=20).status_code == 200


def test_the_page_asks_for_what_the_app_wants_and_gives_it_a_code(server: Server) -> None:
    shown = page(server)
    assert shown.status_code == 200
    assert all(f"<li>{scope}</li>" in shown.text for scope in SCOPES.split())
    assert re.findall(r"value=(allow|deny)", shown.text) == ["allow", "deny"]
    told = consent(server)
    assert told["state"] == ASKED["state"]
    status, pair = exchange(server, told["code"])
    assert (status, pair["token_type"], pair["scope"]) == (200, "bearer", SCOPES)
    assert opens(server, pair["access_token"])
    # Once, and no more.
    assert exchange(server, told["code"]) == (
        400,
        {
            "error": "invalid_request",
            "error_description": "Value passed for the authorization code was invalid.",
        },
    )


def test_who_cancels_gives_no_code(server: Server) -> None:
    assert consent(server, "deny") == {"error": "access_denied", "state": ASKED["state"]}


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: ""} for name in ASKED),
        {"client_id": "another"},
        {"response_type": "token"},
        {"code_challenge_method": "plain"},
        {"scope": "tweet.read dm.write"},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": f"{CALLBACK}#part"},
    ],
    ids=str,
)
def test_what_cannot_be_meant_sends_nobody_anywhere(server: Server, wrong: dict[str, str]) -> None:
    assert page(server, **wrong).status_code == 400
    form = {name: value for name, value in (ASKED | wrong | {"decision": "allow"}).items() if value}
    sent = requests.post(f"{server.base_url}/i/oauth2/authorize", data=form, allow_redirects=False, timeout=20)
    assert (sent.status_code, "Location" in sent.headers) == (400, False)


def test_what_is_asked_for_is_shown_as_text(server: Server) -> None:
    assert "<script>" not in page(server, state="'><script>alert(1)</script>").text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"code_verifier": CLIENT.create_code_verifier(64)}, "code verifier did not match the code challenge"),
        ({"code_verifier": ""}, "Missing required parameter [code_verifier]"),
        ({"redirect_uri": "http://127.0.0.1:1/callback"}, "redirect uri"),
        ({"code": "guessed"}, "authorization code was invalid"),
    ],
    ids=str,
)
def test_a_code_that_does_not_fit_is_refused_and_used_up(server: Server, changes: dict[str, str], says: str) -> None:
    code = consent(server)["code"]
    status, told = exchange(server, **{"code": code, **changes})
    assert (status, told["error"]) == (400, "invalid_request")
    assert says in told["error_description"]
    if "code" not in changes and all(changes.values()):
        assert exchange(server, code)[0] == 400


@pytest.mark.parametrize("auth", [None, (KEYS.client_id, "wrong"), ("another", KEYS.client_secret)], ids=str)
def test_another_app_gets_nothing_for_a_code(server: Server, auth: tuple[str, str] | None) -> None:
    code = consent(server)["code"]
    status, told = exchange(server, code, auth, client_id=KEYS.client_id)
    assert (status, told["error"]) == (401, "unauthorized_client")
    assert exchange(server, code)[0] == 200  # it was not spent on that


def test_an_app_that_can_keep_no_secret_asks_by_its_id(start_server: StartServer) -> None:
    server = start_server(options=("--public-client",))
    code = consent(server)["code"]
    assert exchange(server, code, None)[0] == 401
    assert exchange(server, code, None, client_id="another")[0] == 401
    assert exchange(server, code, None, client_id=KEYS.client_id)[0] == 200


def test_without_offline_access_there_is_no_refresh_token(server: Server) -> None:
    _, pair = exchange(server, consent(server, scope="tweet.read users.read")["code"])
    assert "refresh_token" not in pair
    assert pair["scope"] == "tweet.read users.read"


def test_a_renewed_pair_keeps_its_scope_and_a_revoked_one_opens_nothing(server: Server) -> None:
    scope = "tweet.read users.read offline.access"
    _, first = exchange(server, consent(server, scope=scope)["code"])
    url, body = f"{server.base_url}/2/oauth2", {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = requests.post(f"{url}/token", data=body, auth=BASIC, timeout=20).json()
    assert second["scope"] == scope
    assert requests.post(f"{url}/revoke", data={"token": second["access_token"]}, timeout=20).status_code == 401
    assert opens(server, second["access_token"])
    revoked = requests.post(f"{url}/revoke", data={"token": second["refresh_token"]}, auth=BASIC, timeout=20)
    assert revoked.json() == {"revoked": True}
    assert not opens(server, second["access_token"])


def test_a_code_is_good_for_half_a_minute(tmp_path: Path) -> None:
    tokens = Tokens(Store(tmp_path), seed=1)
    for late, good in ((CODE_LIFE_MS - 1, True), (CODE_LIFE_MS, False)):
        code = tokens.code(CHALLENGE, CALLBACK, SCOPES, wall_ms=1000)
        try:
            pair = tokens.exchange(code, VERIFIER, CALLBACK, now_ms=0, wall_ms=1000 + late)
        except InvalidGrant:
            assert not good
        else:
            assert good
            assert "access_token" in pair


def test_a_query_in_the_callback_is_kept(server: Server) -> None:
    told = consent(server, redirect_uri=f"{CALLBACK}?from=x")
    assert (told["from"], "code" in told) == ("x", True)
