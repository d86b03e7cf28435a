import asyncio
import uuid

import anthropic
import httpx2
from anthropic import Anthropic, AsyncAnthropic, DefaultHttpxClient
from pydantic import BaseModel

from trials import PNG, TIMEOUT, TRANSLATED, main, raises, text

MODEL = TRANSLATED or "claude-haiku-5-5"
WEATHER = {
    "name": "weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


class City(BaseModel):
    city: str


def client(base_url, **options):
    return Anthropic(base_url=base_url, api_key="any", timeout=TIMEOUT, **{"max_retries": 0, **options})


def ask(prompt, **members):
    return {"model": MODEL, "max_tokens": 4096, "messages": [{"role": "user", "content": prompt}], **members}


def create(base_url, prompt, **members):
    return client(base_url).messages.create(**ask(prompt, **members))


def test_a_message_arrives_with_its_usage(base_url):
    message = create(base_url, "Hello")
    assert message.content[0].text == text()
    assert message.model == MODEL and message.stop_reason == "end_turn"
    assert message.usage.input_tokens > 0 and message.usage.output_tokens == 9


def test_the_deltas_of_a_stream_are_its_final_message(base_url):
    with client(base_url).messages.stream(**ask("Hello")) as stream:
        seen = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert seen == message.content[0].text == text()
    assert message.usage.input_tokens > 0 and message.usage.output_tokens == 9


def test_a_tool_is_called_and_its_result_answered(base_url):
    sdk = client(base_url)
    tool_loop(lambda messages: sdk.messages.create(**ask(None, messages=messages, tools=[WEATHER])))


def test_a_tool_is_called_and_its_result_answered_in_streams(base_url):
    sdk = client(base_url)

    def turn(messages):
        with sdk.messages.stream(**ask(None, messages=messages, tools=[WEATHER])) as stream:
            return stream.get_final_message()

    tool_loop(turn)


def tool_loop(turn):
    messages = [{"role": "user", "content": "The weather in Paris? sim:tool"}]
    called = turn(messages)
    [call] = called.content
    assert called.stop_reason == "tool_use"
    assert (call.type, call.name, call.input) == ("tool_use", "weather", {"city": "Paris"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "18 degrees, rain"}
    messages += [{"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    answered = turn(messages)
    assert answered.stop_reason == "end_turn" and answered.content[0].text == text()


def test_the_runner_of_tools_runs_them_and_goes_on(base_url):
    cities = []

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """The weather of a city"""
        cities.append(city)
        return "18 degrees, rain"

    asked = ask("The weather in Paris? sim:tool")
    *_, last = client(base_url).beta.messages.tool_runner(**asked, tools=[weather])
    assert cities == ["Paris"] and last.content[0].text == text()


def test_an_answer_is_parsed_into_the_type_that_it_was_asked_for_in(base_url):
    sdk = client(base_url)
    asked = ask("Where is the Louvre? sim:format", output_format=City)
    message = sdk.messages.parse(**asked)
    with sdk.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    for said in (message, streamed):
        assert said.parsed_output == City(city="Paris") and said.stop_reason == "end_turn"


def test_an_image_may_be_sent(base_url):
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    prompt = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    assert create(base_url, prompt).content[0].text == text()


def test_twenty_streams_in_parallel_do_not_mix(base_url):
    async def run():
        async with AsyncAnthropic(base_url=base_url, api_key="any", timeout=TIMEOUT, max_retries=0) as sdk:

            async def one(n):
                async with sdk.messages.stream(**ask(f"sim:deltas={n},delay=5")) as stream:
                    assert await stream.get_final_text() == text(n)

            await asyncio.gather(*(one(n) for n in range(1, 21)))

    asyncio.run(run())


def test_an_error_of_the_provider_raises_the_class_of_its_status(base_url):
    for status, kind, name in [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.OverloadedError, "overloaded_error"),
    ]:
        for stream in (False, True):
            with raises(kind) as caught:
                create(base_url, f"sim:status={status}", stream=stream)
            assert (caught.error.type, caught.error.api_message) == (name, "simulated error")


def test_a_rate_limit_is_retried_when_the_provider_says_and_then_raised(base_url):
    retries = []
    hooks = {"request": [lambda request: retries.append(request.headers["x-stainless-retry-count"])]}
    sdk = client(base_url, max_retries=2, http_client=DefaultHttpxClient(event_hooks=hooks))
    with raises(anthropic.RateLimitError) as caught:
        sdk.messages.create(**ask("sim:status=429"))
    assert retries == ["0", "1", "2"], retries
    assert caught.error.response.headers["retry-after"] == "1"


def test_a_credential_that_the_provider_refuses_is_our_error_and_not_retried(base_url):
    sent = []
    hooks = {"request": [sent.append]}
    sdk = client(base_url, max_retries=2, http_client=DefaultHttpxClient(event_hooks=hooks))
    with raises(anthropic.InternalServerError):
        sdk.messages.create(**ask("sim:status=401"))
    assert len(sent) == 1


def test_a_web_page_in_the_answers_place_is_an_error_in_the_apis_shape(base_url):
    for prompt, status in [("sim:html", 502), ("sim:html,status=500", 500)]:
        with raises(anthropic.InternalServerError) as caught:
            create(base_url, prompt)
        assert (caught.error.status_code, caught.error.type) == (status, "api_error")


def test_what_the_other_api_cannot_say_is_a_bad_request_that_names_it(base_url):
    sdk = client(base_url)
    with raises(anthropic.BadRequestError) as caught:
        search = {"type": "web_search_20250305", "name": "web_search"}
        sdk.messages.create(**ask("Hello") | {"model": "gpt-5-mini", "tools": [search]})
    assert "tools.0: server tool 'web_search_20250305'" in caught.error.api_message


def test_a_missing_model_is_refused_in_the_apis_shape(base_url):
    answer = httpx2.post(f"{base_url}/v1/messages", json={"max_tokens": 64, "messages": []})
    assert answer.status_code == 400 and answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["type"] == "error" and body["error"]["type"] == "invalid_request_error"
    assert "model" in body["error"]["message"]
    assert body["request_id"] == answer.headers["request-id"]


def test_an_error_event_in_mid_stream_raises(base_url):
    error = broken_stream(base_url, "sim:error=2")
    assert (error.type, error.api_message) == ("api_error", "simulated error")


def test_a_stream_that_the_provider_breaks_off_raises(base_url):
    error = broken_stream(base_url, "sim:abort=2")
    assert error.type == "api_error" and "was cut off" in error.api_message


def test_a_stream_with_crlf_that_the_provider_breaks_off_raises(base_url):
    error = broken_stream(base_url, "sim:crlf,abort=2")
    assert error.type == "api_error" and "was cut off" in error.api_message


def test_an_answer_that_the_provider_breaks_off_raises(base_url):
    with raises(anthropic.InternalServerError if TRANSLATED else anthropic.APIConnectionError):
        create(base_url, "sim:abort=2")


def broken_stream(base_url, prompt):
    """Returns the error of a stream that fails after two deltas, which the client has seen."""
    seen = []
    with raises(anthropic.APIStatusError) as caught:
        with client(base_url).messages.stream(**ask(prompt)) as stream:
            seen.extend(stream.text_stream)
    assert "".join(seen) == text(2)
    return caught.error


def test_a_stream_that_is_closed_early_harms_no_other_call(base_url):
    sdk = client(base_url)
    with sdk.messages.stream(**ask("sim:deltas=1000,delay=10")) as stream:
        next(iter(stream.text_stream))
    assert sdk.messages.create(**ask("Hello")).content[0].text == text()


def test_every_answer_has_a_request_id_of_its_own(base_url):
    sdk = client(base_url)
    plain = sdk.messages.create(**ask("Hello"))._request_id
    with sdk.messages.stream(**ask("Hello")) as stream:
        streamed = stream.request_id
    with raises(anthropic.RateLimitError) as caught:
        sdk.messages.create(**ask("sim:status=429"))
    ids = [plain, streamed, caught.error.request_id]
    assert all(uuid.UUID(id).version == 7 for id in ids) and len(set(ids)) == 3, ids


def test_tokens_are_counted(base_url):
    prompt = [{"role": "user", "content": "Hello"}]
    assert client(base_url).messages.count_tokens(model=MODEL, messages=prompt).input_tokens > 0


def test_models_are_listed_and_retrieved(base_url):
    sdk = client(base_url)
    listed = {model.id: model for model in sdk.models.list()}
    assert sdk.models.retrieve(MODEL) == listed[MODEL]
    assert listed[MODEL].type == "model" and listed[MODEL].display_name
    with raises(anthropic.NotFoundError) as caught:
        sdk.models.retrieve("claude-0")
    assert "claude-0" in caught.error.api_message


def test_models_are_listed_page_by_page(base_url):
    sdk = client(base_url)
    whole = [model.id for model in sdk.models.list()]
    paged = []
    for model in sdk.models.list(limit=2):
        paged.append(model.id)
        assert len(paged) <= len(whole), f"the pages go in a circle: {paged}"
    assert paged == whole


def test_a_long_stream_arrives_whole(base_url):
    with client(base_url).messages.stream(**ask("sim:deltas=2000")) as stream:
        deltas = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(deltas) == message.usage.output_tokens == 2000
    assert "".join(deltas) == message.content[0].text == text(2000)


def test_a_stream_with_crlf_is_like_any_other(base_url):
    with client(base_url).messages.stream(**ask("sim:crlf")) as stream:
        assert stream.get_final_text() == text()


def test_a_compressed_answer_is_read_whether_or_not_it_was_asked_for(base_url):
    for coding in ("gzip", "identity"):
        sdk = client(base_url, default_headers={"accept-encoding": coding})
        assert sdk.messages.create(**ask("sim:gzip")).content[0].text == text()
        with sdk.messages.stream(**ask("sim:gzip,deltas=100")) as stream:
            assert stream.get_final_text() == text(100)


def test_pings_do_not_disturb(base_url):
    with client(base_url).messages.stream(**ask("sim:pings=3")) as stream:
        assert stream.get_final_text() == text()


def test_the_base_url_may_name_the_api(base_url):
    assert create(f"{base_url}/anthropic", "Hello").content[0].text == text()


if __name__ == "__main__":
    main(globals())
