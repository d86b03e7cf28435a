"""How the official SDKs handle keys, limits and budgets, and the records of their calls."""

import asyncio
import json
import os
import sqlite3
import time
import uuid

import anthropic
import openai
from anthropic import Anthropic, AsyncAnthropic
from openai import OpenAI

from trials import TIMEOUT, main, raises, text

CLAUDE, GPT = "claude-haiku-5-5", "gpt-5-mini"


def key(name):
    return os.environ[f"GATEWAY_KEY_{name.upper()}"]


class Tried:
    """Counts the requests that an SDK sends for one call, including its retries."""

    def __init__(self):
        self.count = 0

    def __call__(self, request):
        self.count += 1


def claude(base_url, api_key, tried=None, **options):
    http = anthropic.DefaultHttpxClient(event_hooks={"request": [tried or Tried()]})
    return Anthropic(base_url=base_url, api_key=api_key, timeout=TIMEOUT, http_client=http, **options)


def gpt(base_url, api_key, tried=None, **options):
    http = openai.DefaultHttpxClient(event_hooks={"request": [tried or Tried()]})
    return OpenAI(base_url=f"{base_url}/v1", api_key=api_key, timeout=TIMEOUT, http_client=http, **options)


def ask_claude(sdk, model=CLAUDE, **members):
    messages = [{"role": "user", "content": "Hello"}]
    return sdk.messages.create(**{"model": model, "max_tokens": 64, "messages": messages, **members})


def ask_gpt(sdk, model=GPT, **members):
    return sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}], **members)


def test_a_wrong_key_raises_the_authentication_error_and_is_not_sent_twice(base_url):
    for wrong in ("sk-ant-api03-x", key("plenty")[:-1] + "!", key("plenty").replace("live", "test")):
        tried = Tried()
        with raises(anthropic.AuthenticationError) as caught:
            ask_claude(claude(base_url, wrong, tried))
        assert caught.error.type == "authentication_error" and tried.count == 1
        tried = Tried()
        with raises(openai.AuthenticationError) as caught:
            ask_gpt(gpt(base_url, wrong, tried))
        assert caught.error.code == "invalid_api_key" and tried.count == 1


def test_a_model_that_is_not_allowed_raises_what_each_sdk_knows(base_url):
    with raises(anthropic.BadRequestError) as caught:
        ask_claude(claude(base_url, key("plenty")), model="claude-opus-5-5")
    assert "claude-opus-5-5" in str(caught.error)
    with raises(openai.NotFoundError) as caught:
        ask_gpt(gpt(base_url, key("plenty")), model="gpt-5")
    assert caught.error.code == "model_not_found"


def test_models_are_those_that_the_key_may_use(base_url):
    expected = {"claude-haiku-5-5", "gpt-5-mini"}
    assert {model.id for model in claude(base_url, key("plenty")).models.list()} == expected
    assert {model.id for model in gpt(base_url, key("plenty")).models.list()} == expected


def test_a_rate_limit_is_waited_out_as_retry_after_says_and_then_served(base_url):
    for name, sdk_of, ask, error in [
        ("brisk", claude, ask_claude, anthropic.RateLimitError),
        ("brisk_openai", gpt, ask_gpt, openai.RateLimitError),
    ]:
        hasty = sdk_of(base_url, key(name), max_retries=0)
        for _ in range(20):
            ask(hasty)
        with raises(error) as caught:
            ask(hasty)
        after = int(caught.error.response.headers["retry-after"])
        assert 1 <= after <= 3, after
        limit = "anthropic-ratelimit-requests-limit" if sdk_of is claude else "x-ratelimit-limit-requests"
        assert caught.error.response.headers[limit] == "20"
        tried, began = Tried(), time.monotonic()
        ask(sdk_of(base_url, key(name), tried, max_retries=2))
        assert tried.count == 2 and time.monotonic() - began >= after - 1, (tried.count, after)


def test_a_second_call_at_once_is_refused_until_the_first_has_ended(base_url):
    async def run():
        async with AsyncAnthropic(base_url=base_url, api_key=key("alone"), timeout=TIMEOUT, max_retries=0) as sdk:
            ask = {"model": CLAUDE, "max_tokens": 64, "messages": [{"role": "user", "content": "sim:deltas=20,delay=20"}]}
            async with sdk.messages.stream(**ask) as first:
                await anext(aiter(first))
                with raises(anthropic.RateLimitError):
                    await sdk.messages.create(**ask)
                assert await first.get_final_text() == text(20)
            # The slot is free once the gateway has sent the last byte.
            for _ in range(50):
                try:
                    return await sdk.messages.create(**ask)
                except anthropic.RateLimitError:
                    await asyncio.sleep(0.1)
            raise AssertionError("the slot was never free again")

    asyncio.run(run())


def spend_all(sdk):
    for _ in range(20):
        try:
            ask_claude(sdk)
        except anthropic.RateLimitError:
            return
    raise AssertionError("it is never spent")


def test_a_spent_budget_raises_at_once_and_says_until_when(base_url):
    spend_all(claude(base_url, key("spent"), max_retries=0))
    for name, has_reset in [("spent", True), ("nothing", False)]:
        tried = Tried()
        with raises(anthropic.RateLimitError) as caught:
            ask_claude(claude(base_url, key(name), tried, max_retries=2))
        assert caught.error.type == "billing_error" and tried.count == 1, tried.count
        assert ("retry-after" in caught.error.response.headers) == has_reset
        tried = Tried()
        with raises(openai.RateLimitError) as caught:
            ask_gpt(gpt(base_url, key(name), tried, max_retries=2))
        assert caught.error.code == "insufficient_quota" and tried.count == 1, tried.count


def rows(query, *values):
    with sqlite3.connect(f"file:{os.environ['GATEWAY_DATABASE']}?mode=ro", uri=True) as database:
        database.row_factory = sqlite3.Row
        return database.execute(query, values).fetchall()


def row_of(call, query):
    """Returns the only row of a call. It is written a moment after the client has read the end of the answer."""
    for _ in range(100):
        found = rows(query, uuid.UUID(call).bytes)
        if found:
            assert len(found) == 1
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"nothing is written of {call}")


def assert_written(call, model, usage, end="complete"):
    row = row_of(call, "SELECT * FROM tollgate_audit WHERE id = ?")
    assert (row["key_name"], row["team"], row["model"], row["end"]) == ("ledger", "search", model, end), dict(row)
    ledger = row_of(call, "SELECT * FROM tollgate_reservations WHERE id = ? AND state = 'settled'")
    assert ledger["actual"] == row["charged_nanos"] and ledger["granted"] == row["granted_nanos"]
    assert ledger["actual"] <= ledger["granted"]
    assert len(json.loads(ledger["pots"])) == 3, "key a day, key a month, team a month"
    if usage:
        assert (row["input_tokens"], row["output_tokens"]) == usage
        assert row["charged_nanos"] == row["cost_nanos"] > 0
    record = json.loads(row["record"])
    assert record["schema"] == 1 and "Hello" not in row["record"]
    assert [decision["layer"] for decision in record["decisions"]] == ["auth", "route", "budget"]


def test_a_refused_call_has_one_record_that_says_why_and_no_row_in_the_ledger(base_url):
    refusals = [
        (lambda: ask_claude(claude(base_url, key("plenty")[:-1] + "!")), anthropic.AuthenticationError, "unauthenticated"),
        (lambda: ask_claude(claude(base_url, key("plenty")), "claude-opus-5-5"), anthropic.BadRequestError, "model_not_allowed"),
        (lambda: ask_claude(claude(base_url, key("nothing"))), anthropic.RateLimitError, "budget_spent"),
        (lambda: ask_gpt(gpt(base_url, key("nothing"))), openai.RateLimitError, "budget_spent"),
        (lambda: ask_gpt(gpt(base_url, key("plenty")), "gpt-5"), openai.NotFoundError, "model_not_allowed"),
    ]
    for ask, error, why in refusals:
        with raises(error) as caught:
            ask()
        call = caught.error.response.headers["x-request-id"]
        row = row_of(call, "SELECT * FROM tollgate_audit WHERE id = ?")
        record = json.loads(row["record"])
        assert (row["end"], record["rejection"], row["charged_nanos"]) == ("refused", why, None), dict(row)
        assert not rows("SELECT id FROM tollgate_reservations WHERE id = ?", uuid.UUID(call).bytes)


def test_the_ledger_holds_one_row_for_every_call_with_what_it_cost(base_url):
    sdk = claude(base_url, key("ledger"))
    answer = sdk.messages.with_raw_response.create(
        model=CLAUDE, max_tokens=64, messages=[{"role": "user", "content": "Hello"}]
    )
    message = answer.parse()
    assert_written(answer.headers["request-id"], CLAUDE, (message.usage.input_tokens, message.usage.output_tokens))

    with sdk.messages.stream(model=CLAUDE, max_tokens=64, messages=[{"role": "user", "content": "Hello"}]) as stream:
        usage = stream.get_final_message().usage
        call = stream.response.headers["request-id"]
    assert_written(call, CLAUDE, (usage.input_tokens, usage.output_tokens))

    answer = gpt(base_url, key("ledger")).chat.completions.with_raw_response.create(
        model=GPT, messages=[{"role": "user", "content": "Hello"}]
    )
    usage = answer.parse().usage
    assert_written(answer.headers["x-request-id"], GPT, (usage.prompt_tokens, usage.completion_tokens))


def test_a_client_that_hangs_up_is_in_the_ledger_too(base_url):
    sdk = claude(base_url, key("ledger"))
    prompt = [{"role": "user", "content": "Hello sim:deltas=50,delay=20"}]
    with sdk.messages.stream(model=CLAUDE, max_tokens=64, messages=prompt) as stream:
        next(iter(stream))
        call = stream.response.headers["request-id"]
    assert_written(call, CLAUDE, None, end="abandoned")


if __name__ == "__main__":
    main(globals())
