// LangChain's @langchain/openai: chat models and text completions.
import assert from "node:assert/strict";

import {commonCases} from "./common.mjs";
import {apiKey, failureOf, load, messages, model, question, reference, referenceCompletion, run, url} from "./harness.mjs";

const {ChatOpenAI, OpenAI} = load("@langchain/openai");
const {AIMessage, HumanMessage, SystemMessage, ToolMessage} = load("@langchain/core/messages");
const {ContextOverflowError} = load("@langchain/core/errors");
const {ChatPromptTemplate} = load("@langchain/core/prompts");
const {StringOutputParser} = load("@langchain/core/output_parsers");

const usageOf = (usage) => ({prompt: usage.input_tokens, completion: usage.output_tokens, total: usage.total_tokens});

function history(list) {
  const make = {
    system: ({content}) => new SystemMessage(content),
    user: ({content}) => new HumanMessage({content}),
    assistant: ({content, tool_calls: calls = []}) => new AIMessage({
      content: content ?? "",
      tool_calls: calls.map(({id, function: {name, arguments: args}}) => ({type: "tool_call", id, name, args: JSON.parse(args)}))
    }),
    tool: ({content, tool_call_id: id}) => new ToolMessage({content, tool_call_id: id})
  };
  return list.map((message) => make[message.role](message));
}

function makeClient(key) {
  const common = {apiKey: key, configuration: {baseURL: `${url}/v1`}, maxRetries: 0, timeout: 120_000};
  const settings = ({temperature = 0, maxTokens = 24, endless}) =>
    ({...common, model, temperature, maxTokens, modelKwargs: endless ? {ignore_eos: true} : {}});
  const chat = ({logprobs, ...options}) => new ChatOpenAI({
    ...settings(options), streamUsage: true, ...logprobs !== undefined && {logprobs: true, topLogprobs: logprobs}
  });
  const llm = (options) => new OpenAI(settings(options));
  const perCall = ({stop, seed}, signal) => ({stop, seed, signal});
  return {
    chat, llm, common, history, with: makeClient,
    async answer(own, options, signal) {
      const message = await chat(options).invoke(own, perCall(options, signal));
      return {text: message.content, reason: message.response_metadata.finish_reason, usage: usageOf(message.usage_metadata)};
    },
    async* stream(own, options, signal) {
      let whole;
      for await (const chunk of await chat(options).stream(own, perCall(options, signal))) {
        whole = whole ? whole.concat(chunk) : chunk;
        yield chunk.content;
      }
      yield {reason: whole.response_metadata.finish_reason, usage: usageOf(whole.usage_metadata)};
    },
    async logprobs(own, options) {
      return (await chat(options).invoke(own)).response_metadata.logprobs.content;
    },
    async streamLogprobs(own, options) {
      const entries = [];
      for await (const chunk of await chat(options).stream(own)) {
        entries.push(...chunk.response_metadata.logprobs?.content ?? []);
      }
      return entries;
    },
    framed: (prompt) => prompt,
    async complete(prompt, options) {
      const {generations, llmOutput} = await llm(options).generate([prompt]);
      const {text, generationInfo} = generations[0][0];
      const {promptTokens, completionTokens, totalTokens} = llmOutput.tokenUsage;
      return {text, reason: generationInfo.finishReason, usage: {prompt: promptTokens, completion: completionTokens, total: totalTokens}};
    },
    async* streamComplete(prompt, options) {
      yield* await llm(options).stream(prompt);
    },
    read: ({status, message}) => ({status, message})
  };
}

const client = makeClient(apiKey);
const questions = ["What is 1 plus 1?", "What is 2 plus 2?", "What is 3 plus 3?", "What is 4 plus 4?"];

await run({
  ...commonCases({
    ...client,
    // Its own kind of error for prompts that are too long keeps the original one as the cause.
    read: (error) => client.read(ContextOverflowError.isInstance(error) ? error.cause : error)
  }),

  async "batches"() {
    const expected = [];
    for (const content of questions) expected.push((await reference([{role: "user", content}])).text);
    for (const maxConcurrency of [1, 4]) {
      const got = await client.chat({}).batch(questions, {maxConcurrency});
      assert.deepEqual(got.map((message) => message.content), expected);
    }
    // Text completions are one request of many prompts.
    const options = {maxTokens: 8, endless: true};
    const texts = [];
    for (const prompt of questions) texts.push((await referenceCompletion(prompt, options)).text);
    assert.deepEqual(await client.llm(options).batch(questions), texts);
  },

  async "a chain: a prompt, a model, a parser"() {
    const prompt = ChatPromptTemplate.fromMessages([["system", messages[0].content], ["human", "What is {a} plus {b}?"]]);
    const chain = prompt.pipe(client.chat({})).pipe(new StringOutputParser());
    const {text} = await reference(messages);
    assert.equal(await chain.invoke({a: 2, b: 3}), text);
    let streamed = "";
    for await (const piece of await chain.stream({a: 2, b: 3})) streamed += piece;
    assert.equal(streamed, text);
  },

  async "events of a stream"() {
    let text = "", usage;
    for await (const {event, data} of client.chat({}).streamEvents(history(messages), {version: "v2"})) {
      if (event === "on_chat_model_stream") text += data.chunk.content;
      if (event === "on_chat_model_end") usage = data.output.usage_metadata;
    }
    const expected = await reference(messages);
    assert.equal(text, expected.text);
    assert.deepEqual(usageOf(usage), expected.usage);
  },

  async "several choices"() {
    const hot = new ChatOpenAI({...client.common, model, temperature: 1, n: 3, maxTokens: 24});
    const {generations} = await hot.generate([history(messages)]);
    assert.equal(generations[0].length, 3);
    for (const {text} of generations[0]) assert.ok(text.length > 0);
  },

  async "as it speaks to models that reason"() {
    // For such names it sends a developer's message, max_completion_tokens and reasoning_effort.
    const named = new ChatOpenAI({...client.common, model: "o1", maxTokens: 24, reasoning: {effort: "low"}, modelKwargs: {temperature: 0}});
    assert.equal((await named.invoke(history(messages))).content, (await reference(messages)).text);
  },

  async "a prompt that is too long is its own kind of error"() {
    const long = "word ".repeat(100_000);
    const numbers = `${"7 ".repeat(2000)}`;  // not so long that its bytes alone tell
    for (const prompt of [long, numbers]) {
      const error = await failureOf(client.chat({}).invoke(prompt));
      assert.ok(ContextOverflowError.isInstance(error), `${error.name}: ${error.message}`);
      const completion = await failureOf(client.llm({}).invoke(prompt));
      assert.ok(ContextOverflowError.isInstance(completion), `${completion.name}: ${completion.message}`);
    }
    assert.equal((await client.chat({}).invoke(question)).content, (await reference([{role: "user", content: question}])).text);
  }
});
