import asyncio
import json
import uuid

import httpx2
import openai
from openai import AsyncOpenAI, DefaultHttpxClient, OpenAI
from pydantic import BaseModel

from trials import PNG, TIMEOUT, TRANSLATED, main, raises, text

MODEL = TRANSLATED or "gpt-5-mini"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class City(BaseModel):
    city: str


def client(base_url, **options):
    return OpenAI(base_url=f"{base_url}/v1", api_key="any", timeout=TIMEOUT, **{"max_retries": 0, **options})


def ask(prompt, **members):
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], **members}


def create(base_url, prompt, **members):
    return client(base_url).chat.completions.create(**ask(prompt, **members))


def said(completion):
    return completion.choices[0].message.content


def test_a_completion_arrives_with_its_usage(base_url):
    completion = create(base_url, "Hello")
    assert said(completion) == text()
    assert completion.model == MODEL and completion.choices[0].finish_reason == "stop"
    assert completion.usage.prompt_tokens > 0 and completion.usage.completion_tokens == 9


def test_the_deltas_of_a_stream_are_its_final_completion(base_url):
    with client(base_url).chat.completions.stream(**ask("Hello")) as stream:
        seen = "".join(event.delta for event in stream if event.type == "content.delta")
        completion = stream.get_final_completion()
    assert seen == said(completion) == text()
    assert completion.usage is None


def test_a_stream_that_was_asked_for_its_usage_ends_with_it(base_url):
    *chunks, last = create(base_url, "Hello", stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text()
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == [] and last.usage.prompt_tokens > 0 and last.usage.completion_tokens == 9


def test_a_stream_that_was_not_asked_for_its_usage_has_none(base_url):
    for options in ({}, {"stream_options": {"include_usage": False}}, {"stream_options": None}):
        chunks = list(create(base_url, "Hello", stream=True, **options))
        assert all(chunk.choices and chunk.usage is None for chunk in chunks), options
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text()
        assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_tool_is_called_and_its_result_answered(base_url):
    sdk = client(base_url)
    tool_loop(lambda messages: sdk.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER]))


def test_a_tool_is_called_and_its_result_answered_in_streams(base_url):
    sdk = client(base_url)

    def turn(messages):
        with sdk.chat.completions.stream(model=MODEL, messages=messages, tools=[WEATHER]) as stream:
            return stream.get_final_completion()

    tool_loop(turn)


def tool_loop(turn):
    messages = [{"role": "user", "content": "The weather in Paris? sim:tool"}]
    called = turn(messages).choices[0]
    [call] = called.message.tool_calls
    assert called.finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
    made = {"id": call.id, "type": "function", "function": {"name": "weather", "arguments": call.function.arguments}}
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": call.id, "content": "18 degrees, rain"},
    ]
    answered = turn(messages)
    assert answered.choices[0].finish_reason == "stop" and said(answered) == text()


def test_an_answer_is_parsed_into_the_type_that_it_was_asked_for_in(base_url):
    sdk = client(base_url)
    asked = ask("Where is the Louvre? sim:format", response_format=City)
    completion = sdk.chat.completions.parse(**asked)
    with sdk.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion()
    for choice in (completion.choices[0], streamed.choices[0]):
        assert choice.message.parsed == City(city="Paris") and choice.finish_reason == "stop"


def test_the_arguments_of_a_strict_tool_are_parsed_into_its_type(base_url):
    asked = ask("The weather in Paris? sim:tool", tools=[openai.pydantic_function_tool(City, name="weather")])
    [call] = client(base_url).chat.completions.parse(**asked).choices[0].message.tool_calls
    assert (call.function.name, call.function.parsed_arguments) == ("weather", City(city="Paris"))


def test_an_image_may_be_sent(base_url):
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    assert said(create(base_url, [image, {"type": "text", "text": "What is this?"}])) == text()


def test_twenty_streams_in_parallel_do_not_mix(base_url):
    async def run():
        async with AsyncOpenAI(base_url=f"{base_url}/v1", api_key="any", timeout=TIMEOUT, max_retries=0) as sdk:

            async def one(n):
                async with sdk.chat.completions.stream(**ask(f"sim:deltas={n},delay=5")) as stream:
                    assert said(await stream.get_final_completion()) == text(n)

            await asyncio.gather(*(one(n) for n in range(1, 21)))

    asyncio.run(run())


def test_an_error_of_the_provider_raises_the_class_of_its_status(base_url):
    for status, seen, kind, code in [
        (400, 400, openai.BadRequestError, None),
        (403, 403, openai.PermissionDeniedError, "permission_denied" if TRANSLATED else None),
        (404, 404, openai.NotFoundError, None if TRANSLATED else "model_not_found"),
        (429, 429, openai.RateLimitError, "rate_limit_exceeded"),
        (500, 500, openai.InternalServerError, None),
        # Anthropic's "overloaded". OpenAI's clients treat it like any 5xx.
        (529, 429, openai.RateLimitError, "overloaded" if TRANSLATED else None),
    ]:
        for stream in (False, True):
            with raises(kind) as caught:
                create(base_url, f"sim:status={status}", stream=stream)
            assert (caught.error.status_code, caught.error.code) == (seen, code)
            assert caught.error.body["message"] == "simulated error"


def test_a_rate_limit_is_retried_when_the_provider_says_and_then_raised(base_url):
    retries = []
    hooks = {"request": [lambda request: retries.append(request.headers["x-stainless-retry-count"])]}
    sdk = client(base_url, max_retries=2, http_client=DefaultHttpxClient(event_hooks=hooks))
    with raises(openai.RateLimitError) as caught:
        sdk.chat.completions.create(**ask("sim:status=429"))
    assert retries == ["0", "1", "2"], retries
    assert caught.error.response.headers["retry-after"] == "1"


def test_a_credential_that_the_provider_refuses_is_our_error_and_not_retried(base_url):
    sent = []
    hooks = {"request": [sent.append]}
    sdk = client(base_url, max_retries=2, http_client=DefaultHttpxClient(event_hooks=hooks))
    with raises(openai.InternalServerError) as caught:
        sdk.chat.completions.create(**ask("sim:status=401"))
    assert caught.error.code == "upstream_auth" and len(sent) == 1


def test_a_web_page_in_the_answers_place_is_an_error_in_the_apis_shape(base_url):
    for prompt, status in [("sim:html", 502), ("sim:html,status=500", 500)]:
        with raises(openai.InternalServerError) as caught:
            create(base_url, prompt)
        assert (caught.error.status_code, caught.error.type) == (status, "server_error")


def test_what_the_other_api_cannot_say_is_refused_or_named(base_url):
    with raises(openai.BadRequestError) as caught:
        create(base_url, "Hello", model="claude-haiku-5-5", n=2)
    assert (caught.error.code, caught.error.param) == ("unsupported_parameter", "n")
    sdk = client(base_url).with_raw_response
    answer = sdk.chat.completions.create(**ask("Hello", model="claude-haiku-5-5", seed=7, temperature=0.5))
    assert answer.headers["x-tollgate-warnings"] == "dropped=seed,temperature"
    assert said(answer.parse()) == text()


def test_a_missing_model_is_refused_in_the_apis_shape(base_url):
    answer = httpx2.post(f"{base_url}/v1/chat/completions", json={"messages": []})
    assert answer.status_code == 400 and answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", None)
    assert "model" in error["message"]


def test_an_error_event_in_mid_stream_raises(base_url):
    assert broken_stream(base_url, "sim:error=2").message == "simulated error"


def test_a_stream_that_the_provider_breaks_off_raises(base_url):
    assert "was cut off" in broken_stream(base_url, "sim:abort=2").message


def test_a_stream_with_crlf_that_the_provider_breaks_off_raises(base_url):
    assert "was cut off" in broken_stream(base_url, "sim:crlf,abort=2").message


def test_an_answer_that_the_provider_breaks_off_raises(base_url):
    with raises(openai.InternalServerError if TRANSLATED else openai.APIConnectionError):
        create(base_url, "sim:abort=2")


def broken_stream(base_url, prompt):
    """Returns the error of a stream that fails after two deltas, which the client has seen."""
    seen = []
    with raises(openai.APIError) as caught:
        with client(base_url).chat.completions.stream(**ask(prompt)) as stream:
            seen.extend(event.delta for event in stream if event.type == "content.delta")
    assert "".join(seen) == text(2)
    assert caught.error.type == "server_error"
    return caught.error


def test_a_stream_that_is_closed_early_harms_no_other_call(base_url):
    sdk = client(base_url)
    with sdk.chat.completions.create(**ask("sim:deltas=1000,delay=10", stream=True)) as stream:
        next(stream)
    assert said(sdk.chat.completions.create(**ask("Hello"))) == text()


def test_every_answer_has_a_request_id_of_its_own(base_url):
    sdk = client(base_url)
    plain = sdk.chat.completions.create(**ask("Hello"))._request_id
    with sdk.chat.completions.create(**ask("Hello", stream=True)) as stream:
        streamed = stream.response.headers["x-request-id"]
    with raises(openai.RateLimitError) as caught:
        sdk.chat.completions.create(**ask("sim:status=429"))
    ids = [plain, streamed, caught.error.request_id]
    assert all(uuid.UUID(id).version == 7 for id in ids) and len(set(ids)) == 3, ids


def test_models_are_listed_and_retrieved(base_url):
    sdk = client(base_url)
    listed = {model.id: model for model in sdk.models.list()}
    assert sdk.models.retrieve(MODEL) == listed[MODEL]
    assert (listed[MODEL].object, listed[MODEL].owned_by) == ("model", "anthropic" if TRANSLATED else "openai")
    with raises(openai.NotFoundError) as caught:
        sdk.models.retrieve("gpt-0")
    assert caught.error.code == "model_not_found" and "gpt-0" in caught.error.body["message"], caught.error.body


def test_a_long_stream_arrives_whole(base_url):
    with client(base_url).chat.completions.stream(**ask("sim:deltas=2000")) as stream:
        # The first chunk has the role and no text.
        deltas = [event.delta for event in stream if event.type == "content.delta" and event.delta]
        completion = stream.get_final_completion()
    assert len(deltas) == 2000
    assert "".join(deltas) == said(completion) == text(2000)


def test_a_stream_with_crlf_is_like_any_other(base_url):
    with client(base_url).chat.completions.stream(**ask("sim:crlf")) as stream:
        assert said(stream.get_final_completion()) == text()


def test_a_compressed_answer_is_read_whether_or_not_it_was_asked_for(base_url):
    for coding in ("gzip", "identity"):
        sdk = client(base_url, default_headers={"accept-encoding": coding})
        assert said(sdk.chat.completions.create(**ask("sim:gzip"))) == text()
        for include_usage in (False, True):
            options = {"stream_options": {"include_usage": include_usage}}
            with sdk.chat.completions.stream(**ask("sim:gzip,deltas=100", **options)) as stream:
                completion = stream.get_final_completion()
            assert said(completion) == text(100) and bool(completion.usage) == include_usage


def test_pings_do_not_disturb(base_url):
    with client(base_url).chat.completions.stream(**ask("sim:pings=3")) as stream:
        assert said(stream.get_final_completion()) == text()


def test_the_base_url_may_name_the_api(base_url):
    assert said(create(f"{base_url}/openai", "Hello")) == text()


if __name__ == "__main__":
    main(globals())
