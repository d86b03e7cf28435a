import { TIMEOUT, TRANSLATED, assert, main, raised, require, text } from "./trials.mjs";

const { Anthropic } = require("@anthropic-ai/sdk");
const { jsonSchemaOutputFormat } = require("@anthropic-ai/sdk/helpers/json-schema");

const MODEL = TRANSLATED ?? "claude-haiku-5-5";
const WEATHER = {
  name: "weather",
  description: "The weather of a city",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

const client = (baseURL) => new Anthropic({ baseURL, apiKey: "any", timeout: TIMEOUT, maxRetries: 0 });

const ask = (prompt, members = {}) => ({
  model: MODEL,
  max_tokens: 4096,
  messages: [{ role: "user", content: prompt }],
  ...members,
});

async function test_a_message_arrives_with_its_usage(baseURL) {
  const message = await client(baseURL).messages.create(ask("Hello"));
  assert.deepEqual([message.content[0].text, message.model, message.stop_reason], [text(), MODEL, "end_turn"]);
  assert.ok(message.usage.input_tokens > 0 && message.usage.output_tokens === 9);
}

async function test_the_deltas_of_a_stream_are_its_final_message(baseURL) {
  const stream = client(baseURL).messages.stream(ask("Hello"));
  let seen = "";
  stream.on("text", (delta) => (seen += delta));
  const message = await stream.finalMessage();
  assert.deepEqual([seen, message.content[0].text, message.stop_reason], [text(), text(), "end_turn"]);
  assert.ok(message.usage.input_tokens > 0 && message.usage.output_tokens === 9);
}

async function test_a_tool_is_called_and_its_result_answered_in_streams(baseURL) {
  const turn = (messages) => client(baseURL).messages.stream(ask("", { messages, tools: [WEATHER] })).finalMessage();
  const messages = [{ role: "user", content: "The weather in Paris? sim:tool" }];
  const called = await turn(messages);
  const [call] = called.content;
  assert.deepEqual([called.stop_reason, call.name, call.input], ["tool_use", "weather", { city: "Paris" }]);
  const result = { type: "tool_result", tool_use_id: call.id, content: "18 degrees, rain" };
  messages.push({ role: "assistant", content: called.content }, { role: "user", content: [result] });
  const answered = await turn(messages);
  assert.deepEqual([answered.stop_reason, answered.content[0].text], ["end_turn", text()]);
}

async function test_an_answer_is_parsed_as_the_schema_that_it_was_asked_for_in(baseURL) {
  const format = jsonSchemaOutputFormat(WEATHER.input_schema);
  const asked = ask("Where is the Louvre? sim:format", { output_config: { format } });
  const message = await client(baseURL).messages.parse(asked);
  const streamed = await client(baseURL).messages.stream(asked).finalMessage();
  for (const { parsed_output, stop_reason } of [message, streamed]) {
    assert.deepEqual([parsed_output, stop_reason], [{ city: "Paris" }, "end_turn"]);
  }
}

async function test_an_error_of_the_provider_raises_the_class_of_its_status(baseURL) {
  for (const [status, kind] of [
    [400, Anthropic.BadRequestError],
    [403, Anthropic.PermissionDeniedError],
    [404, Anthropic.NotFoundError],
    [429, Anthropic.RateLimitError],
    [500, Anthropic.InternalServerError],
  ]) {
    const error = await raised(kind, () => client(baseURL).messages.create(ask(`sim:status=${status}`)));
    assert.equal(error.status, status);
  }
}

async function test_a_stream_that_goes_wrong_raises(baseURL) {
  for (const how of ["error=2", "abort=2", "end=2"]) {
    const error = await client(baseURL).messages.stream(ask(`sim:${how}`)).finalMessage().then(() => null, (error) => error);
    assert.ok(error instanceof Anthropic.AnthropicError, `${how}: ${error}`);
  }
}

async function test_tokens_are_counted(baseURL) {
  const messages = [{ role: "user", content: "Hello" }];
  const counted = await client(baseURL).messages.countTokens({ model: MODEL, messages });
  assert.ok(counted.input_tokens > 0);
}

await main({
  test_a_message_arrives_with_its_usage,
  test_the_deltas_of_a_stream_are_its_final_message,
  test_a_tool_is_called_and_its_result_answered_in_streams,
  test_an_answer_is_parsed_as_the_schema_that_it_was_asked_for_in,
  test_an_error_of_the_provider_raises_the_class_of_its_status,
  test_a_stream_that_goes_wrong_raises,
  test_tokens_are_counted,
});
