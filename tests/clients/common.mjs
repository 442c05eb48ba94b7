// What every client can do, told once. A client is an object of functions that use it as its users do:
//   history(list)                      messages of the client's own making, from those of the API
//   answer(history, options, signal)   {text, reason, usage}; options as of fieldsOf (harness.mjs)
//   stream(history, options, signal)   yields pieces of text, and last {reason, usage}
//   logprobs(history, options), streamLogprobs(history, options)   entries of the API's logprobs.content
//   complete(prompt, options)          {text, reason, usage} of a text completion; what it cannot tell is left out
//   streamComplete(prompt, options)    yields pieces of text
//   framed(prompt), frameStop          what complete() sends for a prompt, and the stop string it adds, if any
//   with(key)                          the same client with another key
//   read(error)                        {status, message} of what it throws: the HTTP status and the server's words
import assert from "node:assert/strict";

import {busyWithin, cancelled, failureOf, idleWithin, keyed, messages, question, reference, referenceCompletion} from "./harness.mjs";

const user = (content) => ({role: "user", content});
const turns = [
  ...messages, {role: "assistant", content: "2 plus 3 is 5."}, user("What is 7 plus 1?"), {role: "assistant", content: "7 plus 1 is 8."},
  user("What is 4 plus 4?")
];
const call = (id, numbers) => ({id, type: "function", function: {name: "add", arguments: JSON.stringify(numbers)}});
const calls = [
  ...messages, {role: "assistant", content: null, tool_calls: [call("call_1", {a: 2, b: 3}), call("call_2", {a: 4, b: 4})]},
  {role: "tool", tool_call_id: "call_1", content: "5"}, {role: "tool", tool_call_id: "call_2", content: "8"},
  {role: "assistant", content: "5 and 8."}, user("What is 5 plus 8?")
];
const endless = {endless: true, maxTokens: 1_000_000};  // as much as the context holds
const late = 2000;  // ms in which a client that left has to be noticed

// Of a stream: {text, pieces, reason, usage}.
async function gather(stream) {
  const out = {text: "", pieces: 0};
  for await (const part of stream) {
    if (typeof part === "object") {
      Object.assign(out, part);
    } else if (part.length > 0) {
      out.text += part;
      ++out.pieces;
    }
  }
  return out;
}

// An answer as the openai client gets it, whole and streamed.
async function same(client, history, options = {}) {
  const expected = await reference(history, options);
  const own = client.history(history);
  const {text, reason, usage} = await client.answer(own, options);
  assert.deepEqual({text, reason, usage}, {text: expected.text, reason: expected.reason, usage: expected.usage});
  const streamed = await gather(client.stream(own, options));
  assert.deepEqual([streamed.text, streamed.reason, streamed.usage], [text, reason, usage]);
  return {...expected, pieces: streamed.pieces};
}

async function leaves(start) {
  const before = await cancelled();
  const controller = new AbortController();
  const ended = start(controller.signal);
  await busyWithin(5000);
  controller.abort();
  await ended;
  await idleWithin(late);
  assert.equal(await cancelled(), before + 1);
}

async function refused(client, attempt, status, words) {
  const error = client.read(await failureOf(attempt()));
  assert.equal(error.status, status);
  assert.match(error.message, words);
}

const answers = (client) => ({
  async "chat: a system message and a question"() {
    const {text, pieces} = await same(client, messages);
    assert.ok(text.length > 0 && pieces > 1);
    // It reaches the model: another one makes another prompt.
    const longer = [{role: "system", content: `${messages[0].content} Say nothing else.`}, messages[1]];
    const {usage} = await same(client, longer);
    assert.ok(usage.prompt > (await reference(messages)).usage.prompt);
  },
  async "chat: a conversation of several turns"() {
    await same(client, turns);
  },
  async "chat: calls and their results in the history"() {
    await same(client, calls);
  },
  async "chat: content in parts"() {
    await same(client, [messages[0], user([{type: "text", text: question}, {type: "text", text: "Be brief."}])]);
  },
  async "chat: the longest answer"() {
    const {reason, usage} = await same(client, messages, {maxTokens: 3, endless: true});
    assert.deepEqual([reason, usage.completion], ["length", 3]);
  },
  async "chat: stop strings"() {
    const {text} = await reference(messages);
    const middle = Math.floor(text.length / 2);
    const cut = await same(client, messages, {stop: ["never seen here", text.slice(middle, middle + 2)]});
    assert.equal(cut.reason, "stop");
    assert.ok(cut.text.length <= middle && text.startsWith(cut.text));
  },
  async "chat: a seed and a temperature"() {
    const hot = {temperature: 2, endless: true};
    await same(client, messages, {...hot, seed: 1234});
    const draws = await Promise.all([1, 2, 3, 4].map((seed) => client.answer(client.history(messages), {...hot, seed})));
    assert.ok(new Set(draws.map((draw) => draw.text)).size > 1);
  },
  async "chat: log-probabilities"() {
    const options = {logprobs: 3};
    const {logprobs} = await reference(messages, options);
    assert.ok(logprobs.length > 0);
    assert.deepEqual(await client.logprobs(client.history(messages), options), logprobs);
    assert.deepEqual(await client.streamLogprobs(client.history(messages), options), logprobs);
  },
  async "chat: twelve questions at once"() {
    const asked = Array.from({length: 12}, (_, i) => [user(`What is ${i} plus ${12 - i}?`)]);
    const expected = [];
    for (const history of asked) expected.push((await reference(history)).text);
    const got = await Promise.all(asked.map((history, i) =>
      i % 2 ? client.answer(client.history(history), {}) : gather(client.stream(client.history(history), {}))));
    assert.deepEqual(got.map((answer) => answer.text), expected);
  },
  async "completions: whole and streamed"() {
    const options = {maxTokens: 8, endless: true};
    const expected = await referenceCompletion(client.framed(question), {...options, stop: client.frameStop});
    assert.ok(expected.text.length > 0);
    const got = await client.complete(question, options);
    for (const [name, value] of Object.entries(got)) assert.deepEqual(value, expected[name], name);
    assert.equal((await gather(client.streamComplete(question, options))).text, got.text);
  }
});

const ends = (client) => ({
  async "abort: a stream"() {
    await leaves(async (signal) => {
      // Some clients throw, others end.
      await gather(client.stream(client.history(messages), endless, signal)).catch((error) => assert.ok(signal.aborted, error));
    });
  },
  async "abort: a whole answer"() {
    await leaves((signal) => failureOf(client.answer(client.history(messages), endless, signal)));
  },
  async "a wrong key"() {
    if (!keyed) return "skipped: the server asks for no key";
    const stranger = client.with("wrong-wrong-wrong");
    await refused(stranger, () => stranger.answer(client.history(messages), {}), 401, /key/i);
    await refused(stranger, () => gather(stranger.stream(client.history(messages), {})), 401, /key/i);
  },
  async "errors carry the server's words"() {
    const hot = {temperature: 900};
    await refused(client, () => client.answer(client.history(messages), hot), 400, /temperature.*900/);
    await refused(client, () => gather(client.stream(client.history(messages), hot)), 400, /temperature.*900/);
    await refused(client, () => client.complete(question, hot), 400, /temperature.*900/);
    const long = client.history([user("word ".repeat(100_000))]);
    await refused(client, () => client.answer(long, {}), 400, /maximum context length/);
  }
});

export const commonCases = (client) => ({...answers(client), ...ends(client)});
