// What the scripts of Node share. The SDKs are those of the working directory; `NAME BASE_URL` runs one trial, and the exit
// code tells.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

export { assert };

export const require = createRequire(`${process.cwd()}/`);

// A model that speaks the other API, where the trials are to be translated.
export const TRANSLATED = process.env.GATEWAY_MODEL;

// A trial that hangs says so within its own time, not after the ten minutes that SDKs wait.
export const TIMEOUT = 30_000;

// What the simulated provider says in so many deltas.
export function text(deltas = 9) {
  const words = ["Hello", ",", " I", " am", " simulated", ":", " no", " provider", " was asked."];
  return Array.from({ length: deltas }, (_, n) => words[n % words.length]).join("");
}

// The error of exactly this class that `run` ends with.
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
