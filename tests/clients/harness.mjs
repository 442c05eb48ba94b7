// What the programs of this folder share: the server, the reference answers, and how cases are run.
// usage of each: SHOAL_CLIENT_MODULES=FOLDER node NAME.mjs URL [API-KEY]
// FOLDER holds node_modules (install.sh). One line per case is printed, and a summary. Any model will
// do: what an answer says is only compared with other answers of the same server.
import assert from "node:assert/strict";
import {createRequire} from "node:module";
import path from "node:path";

const [givenUrl, givenKey = "none"] = process.argv.slice(2);
if (!givenUrl) {
  console.error(`usage: SHOAL_CLIENT_MODULES=FOLDER node ${path.basename(process.argv[1])} URL [API-KEY]`);
  process.exit(2);
}
export const url = givenUrl;
export const apiKey = givenKey;
export const keyed = apiKey !== "none";  // whether the server asks for a key
export const load = createRequire(path.resolve(process.env.SHOAL_CLIENT_MODULES ?? process.cwd(), "x.js"));

// Sanitizer builds are many times slower; deadlines that are promises stretch with them.
const slowdown = Number(process.env.SHOAL_TEST_SLOWDOWN ?? 1);

// Some clients look things up at their makers' servers; none of these cases needs that.
const realFetch = globalThis.fetch;
globalThis.fetch = (resource, options) => {
  const asked = String(resource?.url ?? resource);
  if (!asked.startsWith(`${url}/`)) throw new Error(`asks ${asked} instead of the server`);
  return realFetch(resource, options);
};

export const {OpenAI} = load("openai");
export const openai = new OpenAI({baseURL: `${url}/v1`, apiKey, maxRetries: 0, timeout: 120_000 * slowdown});

export const model = "any-name/will-do";
export const question = "What is 2 plus 3?";
export const messages = [{role: "system", content: "You are brief."}, {role: "user", content: question}];

// The API's fields of {temperature = 0, maxTokens = 24, stop, seed, endless, logprobs}, the options of
// the common cases. `endless`: only maxTokens ends the answer. `logprobs`: how many others of each token.
export function fieldsOf({temperature = 0, maxTokens = 24, stop, seed, endless, logprobs}) {
  return {
    temperature, max_tokens: maxTokens, ...stop && {stop}, ...seed !== undefined && {seed}, ...endless && {ignore_eos: true},
    ...logprobs !== undefined && {logprobs: true, top_logprobs: logprobs}
  };
}

// What the openai client gets for the same: {text, reason, usage, logprobs}.
export async function reference(history, options = {}) {
  const answer = await openai.chat.completions.create({model, messages: history, ...fieldsOf(options)});
  const [choice] = answer.choices;
  return {text: choice.message.content, reason: choice.finish_reason, usage: usageOf(answer.usage), logprobs: choice.logprobs?.content};
}

export async function referenceCompletion(prompt, options = {}) {
  const answer = await openai.completions.create({model, prompt, ...fieldsOf(options)});
  return {text: answer.choices[0].text, reason: answer.choices[0].finish_reason, usage: usageOf(answer.usage)};
}

export const usageOf = (usage) => ({prompt: usage.prompt_tokens, completion: usage.completion_tokens, total: usage.total_tokens});

const get = (where) => fetch(`${url}${where}`, {headers: {Authorization: `Bearer ${apiKey}`}});

// Requests that the server computes or keeps waiting.
async function running() {
  const state = await (await get("/cluster")).json();
  return state.running + state.waiting;
}

// Requests that ended because their client left, so far.
export async function cancelled() {
  const text = await (await get("/metrics")).text();
  return Number(/^shoal_requests_total\{.*reason="cancelled".*\} (\d+)/m.exec(text)?.[1] ?? 0);
}

async function until(condition, milliseconds, what) {
  const end = Date.now() + milliseconds * slowdown;
  while (!await condition()) {
    if (Date.now() > end) assert.fail(`${what} after ${milliseconds} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export const busyWithin = (milliseconds) => until(async () => await running() > 0, milliseconds, "no request is running");
export const idleWithin = (milliseconds) =>
  until(async () => await running() === 0, milliseconds, "requests of a client that left are still running");

// The error of something that has to fail.
export async function failureOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  assert.fail("should have been refused");
}

// Runs {name: async function that may return a note}, and ends the process.
export async function run(cases) {
  let failed = 0;
  for (const [name, body] of Object.entries(cases)) {
    try {
      console.log(`ok    ${name}${await body().then((note) => note ? ` (${note})` : "")}`);
    } catch (error) {
      ++failed;
      console.log(`FAIL  ${name}\n      ${String(error.stack).replaceAll("\n", "\n      ")}`);
    }
  }
  const count = Object.keys(cases).length;
  console.log(`${count - failed} of ${count} cases passed`);
  process.exit(failed === 0 ? 0 : 1);
}
