"""Answers that are not a success, in the form X gives them: whole ones, and partial errors beside data.

After https://docs.x.com/x-api/fundamentals/response-codes-and-errors and the OpenAPI description 2.166.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Json = dict[str, Any]
Section = Literal["data", "includes"]
PROBLEMS = "https://api.twitter.com/2/problems/"
NOT_AUTHORIZED = "https://api.x.com/2/problems/not-authorized-for-resource"


class Problem(Exception):
    """An answer that is not a success, in the form X gives it."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(body.get("detail", body))
        self.status, self.body = status, body


def plain_problem(status: int, title: str, detail: str, kind: str = "about:blank") -> Problem:
    return Problem(status, {"title": title, "detail": detail, "type": kind, "status": status})


def invalid(errors: Sequence[Json]) -> Problem:
    """400 for parameters that X does not take; each error has `parameters` and `message`."""
    return Problem(
        400,
        {
            "errors": list(errors),
            "title": "Invalid Request",
            "detail": "One or more parameters to your request was invalid.",
            "type": f"{PROBLEMS}invalid-request",
        },
    )


def not_found(resource: str, parameter: str, value: str) -> Json:
    """The partial error for a post or an account that does not exist."""
    return {
        "value": value,
        "detail": f"Could not find {resource} with {parameter}: [{value}].",
        "title": "Not Found Error",
        "resource_type": resource,
        "parameter": parameter,
        "resource_id": value,
        "type": f"{PROBLEMS}resource-not-found",
    }


def suspended(parameter: str, value: str) -> Json:
    """The partial error for an account that X has suspended."""
    return {
        **not_found("user", parameter, value),
        "detail": f"User has been suspended: [{value}].",
        "title": "Forbidden",
    }


def not_authorized(resource: Literal["tweet", "user"], parameter: str, value: str, section: Section) -> Json:
    """The partial error for a post or an account that may not be seen: protected, or of somebody suspended."""
    shown = "Tweet" if resource == "tweet" else resource
    return {
        "resource_id": value,
        "parameter": parameter,
        "resource_type": resource,
        "section": section,
        "title": "Authorization Error",
        "value": value,
        "detail": f"Sorry, you are not authorized to see the {shown} with {parameter}: [{value}].",
        "type": f"{PROBLEMS}not-authorized-for-resource",
    }


def unauthorized_field(post_id: str, section: str, name: str) -> Json:
    """The partial error for a field of a post that only its author may see."""
    return {
        "resource_id": post_id,
        "parameter": "id",
        "resource_type": "tweet",
        "section": section,
        "title": "Field Authorization Error",
        "value": post_id,
        "detail": f"Sorry, you are not authorized to access '{name}' on the Tweet with id: [{post_id}].",
        "field": name,
        "type": f"{PROBLEMS}not-authorized-for-field",
    }
