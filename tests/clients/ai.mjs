// The AI SDK (npm `ai`) with its provider for servers of the OpenAI API.
import assert from "node:assert/strict";

import {commonCases} from "./common.mjs";
import {apiKey, failureOf, load, messages, model, question, reference, run, url} from "./harness.mjs";

const {APICallError, convertToModelMessages, embed, generateText, streamText} = load("ai");
const {createOpenAICompatible} = load("@ai-sdk/openai-compatible");

const finishReason = {stop: "stop", length: "length"};
const usageOf = (usage) => ({prompt: usage.inputTokens, completion: usage.outputTokens, total: usage.totalTokens});

// The API's messages as this library's.
function history(list) {
  const names = new Map();  // of the tools, by the call
  const part = {
    system: ({content}) => content,
    user: ({content}) => content,
    assistant: ({content, tool_calls: calls = []}) => [
      ...content ? [{type: "text", text: content}] : [],
      ...calls.map(({id, function: {name, arguments: input}}) => {
        names.set(id, name);
        return {type: "tool-call", toolCallId: id, toolName: name, input: JSON.parse(input)};
      })
    ],
    tool: ({tool_call_id: id, content}) =>
      [{type: "tool-result", toolCallId: id, toolName: names.get(id), output: {type: "text", value: content}}]
  };
  return list.map((message) => ({role: message.role, content: part[message.role](message)}));
}

// Fields the library does not know go to the server under the provider's name.
function settings({temperature = 0, maxTokens = 24, stop, seed, endless, logprobs}, signal) {
  return {
    temperature, maxOutputTokens: maxTokens, stopSequences: stop, seed, abortSignal: signal, maxRetries: 0, allowSystemInMessages: true,
    providerOptions: {shoal: {
      ...endless && {ignore_eos: true}, ...logprobs !== undefined && {logprobs: true, top_logprobs: logprobs}
    }}
  };
}

async function* pieces(result) {
  for await (const part of result.fullStream) {
    if (part.type === "text-delta") yield part.text;
    if (part.type === "error") throw part.error;
    if (part.type === "finish") yield {reason: finishReason[part.finishReason], usage: usageOf(part.totalUsage)};
  }
}

function makeClient(key) {
  const provider = createOpenAICompatible({name: "shoal", baseURL: `${url}/v1`, apiKey: key, includeUsage: true});
  const stream = (own, options, signal, more = {}) => streamText(
    {model: provider(model), messages: own, ...settings(options, signal), onError() {}, ...more});
  const result = ({text, finishReason: reason, usage}) => ({text, reason: finishReason[reason], usage: usageOf(usage)});
  return {
    provider, history, with: makeClient,
    async answer(own, options, signal) {
      const answer = await generateText({model: provider(model), messages: own, ...settings(options, signal)});
      assert.deepEqual(answer.warnings, []);
      return result(answer);
    },
    stream: (own, options, signal) => pieces(stream(own, options, signal)),
    async logprobs(own, options) {
      const {response} = await generateText({model: provider(model), messages: own, ...settings(options)});
      return response.body.choices[0].logprobs.content;
    },
    async streamLogprobs(own, options) {
      const entries = [];
      for await (const part of stream(own, options, undefined, {includeRawChunks: true}).fullStream) {
        if (part.type === "raw") entries.push(...part.rawValue.choices[0]?.logprobs?.content ?? []);
      }
      return entries;
    },
    framed: (prompt) => `user:\n${prompt}\n\nassistant:\n`,
    frameStop: ["\nuser:"],
    complete: async (prompt, options) => result(
      await generateText({model: provider.completionModel(model), prompt, ...settings(options)})),
    streamComplete: (prompt, options) => pieces(
      streamText({model: provider.completionModel(model), prompt, ...settings(options), onError() {}})),
    read(error) {
      assert.ok(APICallError.isInstance(error), `${error.name}: ${error.message}`);
      assert.equal(error.data.error.message, error.message);
      return {status: error.statusCode, message: error.message};
    }
  };
}

const client = makeClient(apiKey);

await run({
  ...commonCases(client),

  async "messages of an answer go into the next question"() {
    const first = await generateText({model: client.provider(model), messages: history(messages), ...settings({})});
    const next = {role: "user", content: "What is 4 plus 4?"};
    const list = [...history(messages), ...first.response.messages, next];
    const second = await generateText({model: client.provider(model), messages: list, ...settings({})});
    const expected = await reference([...messages, {role: "assistant", content: first.text}, next]);
    assert.equal(second.text, expected.text);
    assert.equal(second.usage.inputTokens, expected.usage.prompt);
    assert.equal(first.response.headers["x-request-id"], first.response.id);
  },

  async "a web chat: UI messages in, a UI stream out"() {
    const asked = [{id: "1", role: "user", parts: [{type: "text", text: question}]}];
    const result = streamText({
      model: client.provider(model), system: messages[0].content, messages: await convertToModelMessages(asked), ...settings({})
    });
    const body = await result.toUIMessageStreamResponse().text();
    const events = body.split("\n").filter((line) => line.startsWith("data: {")).map((line) => JSON.parse(line.slice(6)));
    const text = events.filter(({type}) => type === "text-delta").map(({delta}) => delta).join("");
    assert.equal(text, (await reference(messages)).text);
    assert.ok(!events.some(({type}) => type === "error"));
  },

  async "a completion that begins with its prompt"() {
    const options = settings({maxTokens: 8, endless: true});
    options.providerOptions.shoal.echo = true;
    const {text} = await generateText({model: client.provider.completionModel(model), prompt: question, ...options});
    const own = await client.complete(question, {maxTokens: 8, endless: true});
    assert.equal(text, client.framed(question) + own.text);
  },

  async "what there is not: embeddings"() {
    const attempt = embed({model: client.provider.textEmbeddingModel(model), value: "x", maxRetries: 0});
    const {status, message} = client.read(await failureOf(attempt));
    assert.equal(status, 404);
    assert.match(message, /embeddings/);
  }
});
