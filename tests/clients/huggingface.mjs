// Hugging Face's @huggingface/inference with an endpoint URL of one's own.
import assert from "node:assert/strict";

import {commonCases} from "./common.mjs";
import {apiKey, failureOf, fieldsOf, keyed, load, messages, model, question, reference, referenceCompletion, run, url, usageOf} from "./harness.mjs";

const {InferenceClient, InferenceClientProviderApiError} = load("@huggingface/inference");

// As its types say: an assistant that only calls has no content.
const history = (list) => list.map(({content, ...message}) => ({...message, ...content !== null && {content}}));

function makeClient(key) {
  const hub = new InferenceClient(key, {endpointUrl: `${url}/v1`, retry_on_error: false});
  const request = (own, options) => ({model, messages: own, ...fieldsOf(options)});
  const generation = (prompt, {temperature = 0, maxTokens = 24, endless}) =>
    ({model, inputs: prompt, parameters: {temperature, max_new_tokens: maxTokens, ...endless && {ignore_eos: true}}});
  return {
    hub, history, with: makeClient,
    async answer(own, options, signal) {
      const answer = await hub.chatCompletion(request(own, options), {signal});
      return {text: answer.choices[0].message.content, reason: answer.choices[0].finish_reason, usage: usageOf(answer.usage)};
    },
    async* stream(own, options, signal) {
      const last = {};
      for await (const {choices: [choice], usage} of
        hub.chatCompletionStream({...request(own, options), stream_options: {include_usage: true}}, {signal})) {
        if (choice?.delta.content) yield choice.delta.content;
        if (choice?.finish_reason) last.reason = choice.finish_reason;
        if (usage) last.usage = usageOf(usage);
      }
      yield last;
    },
    async logprobs(own, options) {
      return (await hub.chatCompletion(request(own, options))).choices[0].logprobs.content;
    },
    async streamLogprobs(own, options) {
      const entries = [];
      for await (const {choices: [choice]} of hub.chatCompletionStream(request(own, options))) {
        entries.push(...choice.logprobs?.content ?? []);
      }
      return entries;
    },
    framed: (prompt) => prompt,
    complete: async (prompt, options) => ({text: (await hub.textGeneration(generation(prompt, options))).generated_text}),
    async* streamComplete(prompt, options) {
      for await (const {choices: [choice]} of hub.textGenerationStream(generation(prompt, options))) yield choice.text;
    },
    read(error) {
      assert.ok(error instanceof InferenceClientProviderApiError, `${error.name}: ${error.message}`);
      return {status: error.httpResponse.status, message: error.httpResponse.body.error.message};
    }
  };
}

const client = makeClient(apiKey);

await run({
  ...commonCases(client),

  async "every way to write the endpoint, and no model"() {
    const {text} = await reference(messages);
    const ask = async (hub, more = {}) => (await hub.chatCompletion({messages, temperature: 0, max_tokens: 24, ...more})).choices[0].message.content;
    for (const endpointUrl of [url, `${url}/`, `${url}/v1`, `${url}/v1/`, `${url}/v1/chat/completions`]) {
      assert.equal(await ask(new InferenceClient(apiKey, {endpointUrl})), text);
      assert.equal(await ask(new InferenceClient(apiKey).endpoint(endpointUrl)), text);
      assert.equal(await ask(new InferenceClient(apiKey), {endpointUrl, model}), text);
    }
    if (!keyed) assert.equal(await ask(new InferenceClient("", {endpointUrl: url})), text);
  },

  async "parameters of text generation"() {
    const generate = (parameters) => client.hub.textGeneration({model, inputs: question, parameters: {max_new_tokens: 8, ignore_eos: true, ...parameters}});
    const greedy = await referenceCompletion(question, {maxTokens: 8, endless: true});
    const hot = {temperature: 50, seed: 7};
    const drawn = await referenceCompletion(question, {...hot, maxTokens: 8, endless: true});
    assert.notEqual(drawn.text, greedy.text);
    assert.equal((await generate({...hot, do_sample: true})).generated_text, drawn.text);
    const nothing = {return_full_text: false, watermark: false, decoder_input_details: false, top_n_tokens: 0};
    assert.equal((await generate({...hot, ...nothing, do_sample: false})).generated_text, greedy.text);
    assert.equal((await generate({temperature: 0, return_full_text: true})).generated_text, question + greedy.text);
    // What would change the answer is refused, not left out in silence.
    for (const [name, value] of Object.entries({truncate: 4, top_n_tokens: 3, watermark: true, adapter_id: "x"})) {
      const {status, message} = client.read(await failureOf(generate({[name]: value})));
      assert.equal(status, 400);
      assert.match(message, new RegExp(`'${name}' is not supported`));
    }
  }
});
