import { TIMEOUT, TRANSLATED, assert, main, raised, require, text } from "./trials.mjs";

const { OpenAI } = require("openai");

const MODEL = TRANSLATED ?? "gpt-5-mini";
const PARAMETERS = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };

const client = (baseURL) => new OpenAI({ baseURL: `${baseURL}/v1`, apiKey: "any", timeout: TIMEOUT, maxRetries: 0 });

const ask = (prompt, members = {}) => ({ model: MODEL, messages: [{ role: "user", content: prompt }], ...members });

async function test_a_completion_arrives_with_its_usage(baseURL) {
  const completion = await client(baseURL).chat.completions.create(ask("Hello"));
  const [choice] = completion.choices;
  assert.deepEqual([choice.message.content, choice.finish_reason, completion.model], [text(), "stop", MODEL]);
  assert.ok(completion.usage.prompt_tokens > 0 && completion.usage.completion_tokens === 9);
}

async function test_the_deltas_of_a_stream_are_its_final_completion(baseURL) {
  const asked = ask("Hello", { stream_options: { include_usage: true } });
  const stream = client(baseURL).chat.completions.stream(asked);
  let seen = "";
  stream.on("content", (delta) => (seen += delta));
  const completion = await stream.finalChatCompletion();
  assert.deepEqual([seen, completion.choices[0].message.content], [text(), text()]);
  assert.ok(completion.usage.prompt_tokens > 0 && completion.usage.completion_tokens === 9);
}

async function test_a_runner_calls_a_tool_and_answers_with_its_result(baseURL) {
  const cities = [];
  const weather = {
    name: "weather",
    description: "The weather of a city",
    parameters: PARAMETERS,
    parse: JSON.parse,
    function: ({ city }) => {
      cities.push(city);
      return "18 degrees, rain";
    },
  };
  const tools = [{ type: "function", function: weather }];
  for (const stream of [false, true]) {
    const runner = client(baseURL).chat.completions.runTools(ask("The weather in Paris? sim:tool", { tools, stream }));
    assert.equal(await runner.finalContent(), text());
  }
  assert.deepEqual(cities, ["Paris", "Paris"]);
}

async function test_an_answer_is_parsed_as_the_schema_that_it_was_asked_for_in(baseURL) {
  const schema = { ...PARAMETERS, additionalProperties: false };
  const response_format = { type: "json_schema", json_schema: { name: "city", strict: true, schema } };
  const asked = ask("Where is the Louvre? sim:format", { response_format });
  const completion = await client(baseURL).chat.completions.parse(asked);
  const streamed = await client(baseURL).chat.completions.stream(asked).finalChatCompletion();
  for (const { message, finish_reason } of [completion.choices[0], streamed.choices[0]]) {
    assert.deepEqual([message.parsed, finish_reason], [{ city: "Paris" }, "stop"]);
  }
}

async function test_an_error_of_the_provider_raises_the_class_of_its_status(baseURL) {
  for (const [status, kind] of [
    [400, OpenAI.BadRequestError],
    [403, OpenAI.PermissionDeniedError],
    [404, OpenAI.NotFoundError],
    [429, OpenAI.RateLimitError],
    [500, OpenAI.InternalServerError],
  ]) {
    const error = await raised(kind, () => client(baseURL).chat.completions.create(ask(`sim:status=${status}`)));
    assert.equal(error.status, status);
  }
}

async function test_a_stream_that_goes_wrong_raises(baseURL) {
  for (const how of ["error=2", "abort=2"]) {
    const stream = client(baseURL).chat.completions.stream(ask(`sim:${how}`));
    const error = await stream.finalChatCompletion().then(() => null, (error) => error);
    assert.ok(error instanceof OpenAI.OpenAIError, `${how}: ${error}`);
  }
}

await main({
  test_a_completion_arrives_with_its_usage,
  test_the_deltas_of_a_stream_are_its_final_completion,
  test_a_runner_calls_a_tool_and_answers_with_its_result,
  test_an_answer_is_parsed_as_the_schema_that_it_was_asked_for_in,
  test_an_error_of_the_provider_raises_the_class_of_its_status,
  test_a_stream_that_goes_wrong_raises,
});
