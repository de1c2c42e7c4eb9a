"""The API, asked at random: whatever comes, the answer is one that its description names, and the server stays well."""

from __future__ import annotations

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.inference.serve.test_app import post


@pytest.fixture(scope="module")
def api(address, scene_png):
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")

    @schema.hook
    def map_body(context, body):
        """Some requests bring an image, and some of these a category that the agent knows."""
        if not isinstance(body, dict) or len(repr(body)) % 2:
            return body
        known = {"category": "star", "categories": ["star", "ring"]}
        named = {name: known[name] for name in known if name in body and len(repr(body)) % 4}
        return {**body, **named, "image": scene_png}

    return schema


@pytest.mark.long
@pytest.mark.parametrize(
    ("path", "method", "mode", "seen"),
    [
        ("/segment", "POST", GenerationMode.POSITIVE, {200, 415, 422}),
        ("/segment", "POST", GenerationMode.NEGATIVE, {415, 422}),
        ("/annotate", "POST", GenerationMode.POSITIVE, {200, 415, 422}),
        ("/annotate", "POST", GenerationMode.NEGATIVE, {415, 422}),
        ("/categories", "GET", GenerationMode.POSITIVE, {200}),
        ("/health", "GET", GenerationMode.POSITIVE, {200}),
    ],
)
def test_every_answer_is_described(path, method, mode, seen, api):
    statuses = set()

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(api[path][method].as_strategy(generation_mode=mode))
    def ask(case):
        # Text that is well-formed by the description need be no image, nor a category that the agent knows.
        excluded = [positive_data_acceptance, negative_data_rejection]
        statuses.add(case.call_and_validate(excluded_checks=excluded, timeout=60).status_code)

    ask()
    assert seen <= statuses <= {200, 413, 415, 422}


@pytest.mark.long
def test_it_still_answers_and_holds_no_request(address, scene_png):
    assert post(address, scene_png, category="star").status_code == 200
    assert requests.get(f"{address}/health", timeout=60).json()["in_progress"] == 0
