// How the official SDKs handle keys, limits and budgets.

import { TIMEOUT, assert, main, raised, require } from "./trials.mjs";

const { Anthropic } = require("@anthropic-ai/sdk");
const { OpenAI } = require("openai");

const CLAUDE = "claude-haiku-5-5";
const GPT = "gpt-5-mini";
const HELLO = [{ role: "user", content: "Hello" }];

const key = (name) => process.env[`GATEWAY_KEY_${name.toUpperCase()}`];

// Returns a client, and the count of its requests including retries.
function counting(kind, options) {
  const tried = { count: 0 };
  const counted = (...request) => {
    tried.count += 1;
    return fetch(...request);
  };
  return [new kind({ timeout: TIMEOUT, fetch: counted, ...options }), tried];
}

// For each SDK, how to make a client for a key and a number of retries, and how to ask.
function families(baseURL) {
  return [
    {
      kind: Anthropic,
      by: (apiKey, maxRetries) => counting(Anthropic, { baseURL, apiKey, maxRetries }),
      ask: (sdk) => sdk.messages.create({ model: CLAUDE, max_tokens: 64, messages: HELLO }),
    },
    {
      kind: OpenAI,
      by: (apiKey, maxRetries) => counting(OpenAI, { baseURL: `${baseURL}/v1`, apiKey, maxRetries }),
      ask: (sdk) => sdk.chat.completions.create({ model: GPT, messages: HELLO }),
    },
  ];
}

async function test_a_wrong_key_raises_the_authentication_error_and_is_not_sent_twice(baseURL) {
  for (const { kind, by, ask } of families(baseURL)) {
    for (const wrong of ["sk-ant-api03-x", `${key("plenty").slice(0, -1)}!`, key("plenty").replace("live", "test")]) {
      const [sdk, tried] = by(wrong, 2);
      const error = await raised(kind.AuthenticationError, () => ask(sdk));
      assert.deepEqual([error.status, tried.count], [401, 1]);
      if (kind === OpenAI) assert.equal(error.code, "invalid_api_key");
      else assert.equal(error.type, "authentication_error");
    }
  }
}

async function test_a_rate_limit_is_waited_out_as_retry_after_says_and_then_served(baseURL) {
  const names = ["brisk_node", "brisk_node_openai"];
  for (const [at, { kind, by, ask }] of families(baseURL).entries()) {
    const [hasty] = by(key(names[at]), 0);
    // Ask until the limit is reached, including the requests that flow back in the meantime.
    let error = null;
    for (let n = 0; n < 200 && error === null; n += 1) error = await ask(hasty).then(() => null, (error) => error);
    assert.ok(error instanceof kind.RateLimitError, `${error}`);
    const after = Number(error.headers.get("retry-after"));
    assert.ok(after >= 1 && after <= 3, `${after}`);
    const limit = kind === OpenAI ? "x-ratelimit-limit-requests" : "anthropic-ratelimit-requests-limit";
    assert.equal(error.headers.get(limit), "20");
    const [patient, tried] = by(key(names[at]), 2);
    const began = performance.now();
    await ask(patient);
    const waited = (performance.now() - began) / 1000;
    assert.ok(tried.count === 2 && waited >= after - 1, `${tried.count} tries in ${waited} s, of ${after}`);
  }
}

async function test_a_spent_budget_raises_at_once_and_is_not_asked_for_again(baseURL) {
  const [claude, gpt] = families(baseURL);
  const [spending] = claude.by(key("spent_node"), 0);
  let error = null;
  for (let n = 0; n < 20 && error === null; n += 1) error = await claude.ask(spending).then(() => null, (error) => error);
  assert.ok(error instanceof Anthropic.RateLimitError, `it is never spent: ${error}`);
  for (const { kind, by, ask } of [claude, gpt]) {
    for (const name of ["spent_node", "nothing"]) {
      const [sdk, tried] = by(key(name), 2);
      const error = await raised(kind.RateLimitError, () => ask(sdk));
      assert.deepEqual([error.headers.get("x-should-retry"), tried.count], ["false", 1]);
      if (kind === OpenAI) {
        // The request may cost more than either whole budget.
        assert.equal(error.code, "insufficient_quota");
        continue;
      }
      assert.equal(error.type, "billing_error");
      assert.equal(error.headers.has("retry-after"), name === "spent_node");
    }
  }
}

await main({
  test_a_wrong_key_raises_the_authentication_error_and_is_not_sent_twice,
  test_a_rate_limit_is_waited_out_as_retry_after_says_and_then_served,
  test_a_spent_budget_raises_at_once_and_is_not_asked_for_again,
});
