// The npm `openai` client: everything of the API that Shoal has.
import assert from "node:assert/strict";

import {apiKey, failureOf, idleWithin, keyed, messages, model, OpenAI, openai as client, question as prompt, run, url} from "./harness.mjs";

const greedy = {model, messages, temperature: 0, max_tokens: 24};
const endless = {model, messages, max_tokens: 1500, ignore_eos: true};

async function rejects(promise, Type, status, param) {
  const error = await failureOf(promise);
  assert.ok(error instanceof Type, `${error.constructor.name}: ${error.message}`);
  assert.equal(error.status, status);
  if (param !== undefined) assert.equal(error.param, param);
  assert.ok(error.type && error.message);
  return error;
}

function checkUsage(usage) {
  assert.ok(usage.prompt_tokens > 0 && usage.completion_tokens > 0);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  assert.equal(typeof usage.prompt_tokens_details.cached_tokens, "number");
}

function checkEntry(entry, top) {
  assert.equal(typeof entry.token, "string");
  assert.ok(Number.isInteger(entry.id) && Array.isArray(entry.bytes) && entry.logprob <= 1e-3);
  if (top === undefined) return;
  assert.equal(entry.top_logprobs.length, top);
  for (const [i, other] of entry.top_logprobs.entries()) {
    checkEntry(other);
    if (i > 0) assert.ok(other.logprob <= entry.top_logprobs[i - 1].logprob);
  }
}

await run({
  async "models: list and retrieve"() {
    const list = await client.models.list();
    assert.equal(list.data.length, 1);
    assert.equal((await client.models.retrieve(list.data[0].id)).id, list.data[0].id);
    await rejects(client.models.retrieve("no-such-model"), OpenAI.NotFoundError, 404, "model");
  },

  async "chat: whole answer"() {
    const answer = await client.chat.completions.create(greedy);
    assert.equal(answer.object, "chat.completion");
    assert.equal(answer.model, model);
    assert.equal(answer.choices.length, 1);
    assert.equal(answer.choices[0].message.role, "assistant");
    assert.ok(answer.choices[0].message.content.length > 0);
    assert.ok(["stop", "length"].includes(answer.choices[0].finish_reason));
    assert.ok(answer._request_id === answer.id);
    checkUsage(answer.usage);
  },

  async "chat: a stream says the same"() {
    const whole = await client.chat.completions.create(greedy);
    const stream = await client.chat.completions.create(
      {...greedy, stream: true, stream_options: {include_usage: true}});
    let text = "", reason = null, usage = null, first = true;
    for await (const chunk of stream) {
      if (chunk.choices.length === 0) {
        usage = chunk.usage;
        continue;
      }
      const [choice] = chunk.choices;
      if (first) assert.equal(choice.delta.role, "assistant");
      first = false;
      text += choice.delta.content ?? "";
      reason = choice.finish_reason ?? reason;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(reason, whole.choices[0].finish_reason);
    checkUsage(usage);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  },

  async "chat: the stream helper"() {
    const runner = client.chat.completions.stream({...greedy, stream_options: {include_usage: true}});
    const final = await runner.finalChatCompletion();
    const whole = await client.chat.completions.create(greedy);
    assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
    assert.equal(final.choices[0].finish_reason, whole.choices[0].finish_reason);
    checkUsage(final.usage);
  },

  async "chat: content parts are one text"() {
    const content = [{type: "text", text: "What is 2 plus 3?"}];
    const parts = await client.chat.completions.create({...greedy, messages: [messages[0], {role: "user", content}]});
    const plain = await client.chat.completions.create(greedy);
    assert.equal(parts.choices[0].message.content, plain.choices[0].message.content);
  },

  async "chat: log-probabilities"() {
    const answer = await client.chat.completions.create({...greedy, logprobs: true, top_logprobs: 5, return_token_ids: true});
    const [choice] = answer.choices;
    for (const entry of choice.logprobs.content) checkEntry(entry, 5);
    assert.deepEqual(choice.token_ids, choice.logprobs.content.map((entry) => entry.id));
    const bytes = Buffer.from(choice.logprobs.content.flatMap((entry) => entry.bytes));
    assert.equal(bytes.toString("utf8").trim(), choice.message.content.trim());
  },

  async "chat: streamed log-probabilities are the same"() {
    const options = {...greedy, logprobs: true, top_logprobs: 2};
    const whole = await client.chat.completions.create(options);
    const ids = [];
    for await (const chunk of await client.chat.completions.create({...options, stream: true})) {
      for (const entry of chunk.choices[0].logprobs?.content ?? []) ids.push(entry.id);
    }
    assert.deepEqual(ids, whole.choices[0].logprobs.content.map((entry) => entry.id));
  },

  async "chat: several choices"() {
    const answer = await client.chat.completions.create({...greedy, temperature: 1, n: 3});
    assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1, 2]);
    const seen = new Set();
    for await (const chunk of await client.chat.completions.create({...greedy, n: 3, stream: true})) {
      for (const choice of chunk.choices) if (choice.finish_reason) seen.add(choice.index);
    }
    assert.deepEqual([...seen].sort(), [0, 1, 2]);
  },

  async "chat: a seed repeats"() {
    const options = {...greedy, temperature: 1, seed: 1234};
    const texts = [];
    for (let i = 0; i < 3; ++i) {
      texts.push((await client.chat.completions.create(options)).choices[0].message.content);
    }
    assert.equal(texts[0], texts[1]);
    assert.equal(texts[0], texts[2]);
  },

  async "chat: stop strings cut exactly"() {
    const whole = (await client.chat.completions.create(greedy)).choices[0].message.content;
    const middle = Math.floor(whole.length / 2);
    const stop = whole.slice(middle, middle + 2);
    const answer = await client.chat.completions.create({...greedy, stop: ["never seen here", stop]});
    assert.equal(answer.choices[0].message.content, whole.slice(0, whole.indexOf(stop)));
    assert.equal(answer.choices[0].finish_reason, "stop");
  },

  async "chat: max_tokens"() {
    for (const field of ["max_tokens", "max_completion_tokens"]) {
      const answer = await client.chat.completions.create({model, messages, ignore_eos: true, [field]: 3});
      assert.equal(answer.choices[0].finish_reason, "length");
      assert.equal(answer.usage.completion_tokens, 3);
    }
  },

  async "completions: text, tokens, lists, streams"() {
    const options = {model, temperature: 0, max_tokens: 8};
    const whole = await client.completions.create({...options, prompt});
    assert.equal(whole.object, "text_completion");
    checkUsage(whole.usage);
    let streamed = "";
    for await (const chunk of await client.completions.create({...options, prompt, stream: true})) {
      streamed += chunk.choices[0].text;
    }
    assert.equal(streamed, whole.choices[0].text);
    const list = await client.completions.create({...options, prompt: [prompt, prompt], n: 2});
    assert.deepEqual(list.choices.map((choice) => choice.index), [0, 1, 2, 3]);
    for (const choice of list.choices) assert.equal(choice.text, whole.choices[0].text);
    const headers = {Authorization: `Bearer ${apiKey}`, "Content-Type": "application/json"};
    const body = JSON.stringify({content: prompt, add_special: true});
    const {tokens} = await (await fetch(`${url}/tokenize`, {method: "POST", headers, body})).json();
    const fromTokens = await client.completions.create({...options, prompt: tokens});
    assert.equal(fromTokens.choices[0].text, whole.choices[0].text);
    assert.equal(fromTokens.usage.prompt_tokens, tokens.length);
  },

  async "completions: log-probabilities"() {
    const answer = await client.completions.create({model, prompt, temperature: 0, max_tokens: 4, logprobs: 3, ignore_eos: true});
    const {tokens, token_logprobs, top_logprobs, text_offset, content} = answer.choices[0].logprobs;
    for (const list of [token_logprobs, top_logprobs, text_offset, content]) assert.equal(list.length, tokens.length);
    for (const entry of content) checkEntry(entry, 3);
  },

  async "abort: a stream"() {
    const stream = await client.chat.completions.create({...endless, stream: true});
    let chunks = 0;
    for await (const chunk of stream) {
      assert.ok(chunk.choices);
      if (++chunks === 3) break;  // the client closes the connection
    }
    await idleWithin(2000);
  },

  async "abort: a whole answer"() {
    const controller = new AbortController();
    const answer = client.chat.completions.create(endless, {signal: controller.signal});
    setTimeout(() => controller.abort(), 150);
    await assert.rejects(answer, OpenAI.APIUserAbortError);
    await idleWithin(2000);
  },

  async "errors name the field"() {
    const create = (fields) => client.chat.completions.create({...greedy, ...fields});
    const bad = OpenAI.BadRequestError;
    await rejects(create({temperature: 900}), bad, 400, "temperature");
    await rejects(create({max_tokens: 0}), bad, 400, "max_tokens");
    await rejects(create({messages: []}), bad, 400, "messages");
    await rejects(create({messages: [{role: "user", content: [{type: "image_url"}]}]}), bad, 400, "messages[0].content[0].type");
    await rejects(create({tools: [{type: "function", function: {name: "f"}}]}), bad, 400, "tools");
    await rejects(create({response_format: {type: "json_object"}}), bad, 400, "response_format");
    await rejects(create({logit_bias: {"-1": 1}}), bad, 400, "logit_bias");
    const long = await rejects(create({messages: [{role: "user", content: "word ".repeat(100_000)}]}), bad, 400, "messages");
    assert.equal(long.code, "context_length_exceeded");
    assert.match(long.message, /maximum context length/);
    await rejects(create({temperature: 900, stream: true}), bad, 400, "temperature");
    await rejects(client.embeddings.create({model, input: "x"}), OpenAI.NotFoundError, 404);
    assert.ok((await create({})).choices[0].message.content.length > 0);
  },

  async "a wrong key is refused"() {
    if (!keyed) return "skipped: the server asks for no key";
    const stranger = new OpenAI({baseURL: `${url}/v1`, apiKey: "wrong-wrong-wrong", maxRetries: 0});
    await rejects(stranger.models.list(), OpenAI.AuthenticationError, 401);
  },

  async "thirty at once"() {
    const whole = (await client.chat.completions.create(greedy)).choices[0].message.content;
    const answers = await Promise.all(Array.from({length: 30}, async () => {
      let text = "";
      for await (const chunk of await client.chat.completions.create({...greedy, stream: true})) {
        text += chunk.choices[0].delta.content ?? "";
      }
      return text;
    }));
    for (const text of answers) assert.equal(text, whole);
  }
});
