// Shared by the Node scripts. The SDKs are those in the working directory. `NAME BASE_URL` runs one trial, and the exit code
// is its result.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

export { assert };

export const require = createRequire(`${process.cwd()}/`);

// A model of the other API, if the calls of the trials are to be translated.
export const TRANSLATED = process.env.GATEWAY_MODEL;

// Trials time out by themselves, instead of after the SDKs' ten minutes.
export const TIMEOUT = 30_000;

// The text that the simulated provider sends in this many deltas.
export function text(deltas = 9) {
  const words = ["Hello", ",", " I", " am", " simulated", ":", " no", " provider", " was asked."];
  return Array.from({ length: deltas }, (_, n) => words[n % words.length]).join("");
}

// Returns the error of exactly this class that `run` ends with.
export async function raised(kind, run) {
  const error = await run().then(
    () => assert.fail(`${kind.name} expected, and nothing was raised`),
    (error) => error,
  );
  assert.equal(error.constructor.name, kind.name, String(error));
  return error;
}

export async function main(trials) {
  const [name, baseURL] = process.argv.slice(2);
  await trials[name](baseURL);
}
