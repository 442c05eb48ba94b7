// llama.cpp's log-probabilities, for comparison. Standard input: {"model": path, "cases": [[token ids], …],
// "top": n, "greedy": m, "context": tokens}; standard output: [{"top": [[id, ln p], …], "entropy": nats, "greedy": [ids],
// "margins": [ln p of the best − ln p of the second, …]}, …] for the token after each case. "context" defaults to what the
// cases need; llama.cpp rounds it up to 256.
// CPU, one thread, F32 KV cache, no flash attention: the most exact llama.cpp there is.
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";
import path from "node:path";
import fs from "node:fs";

const modules = process.env.SHOAL_PEER_MODULES;
const require = createRequire(path.join(modules, "x.js"));
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(require.resolve("node-llama-cpp")).href);

const request = JSON.parse(fs.readFileSync(0, "utf8"));
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: 1});
const model = await llama.loadModel({modelPath: request.model, useMmap: false});
const longest = Math.max(...request.cases.map((tokens) => tokens.length)) + (request.greedy ?? 0) + 8;
const context = await model.createContext({
  contextSize: request.context ?? longest, flashAttention: false, threads: 1,
  experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32"
});
const sequence = context.getSequence();
const out = [];
for (const tokens of request.cases) {
  await sequence.clearHistory();
  const input = [...tokens.slice(0, -1), [tokens.at(-1), {generateNext: {probabilities: true}}]];
  const evaluated = await sequence.controlledEvaluate(input);
  let next = evaluated.at(-1).next.probabilities;
  const ranked = [...next.entries()].sort((a, b) => b[1] - a[1]);
  const total = ranked.reduce((sum, [, p]) => sum + p, 0);  // of 155,000 tokens the peer's float sum is 2e-4 off
  const top = ranked.slice(0, request.top).map(([id, p]) => [id, Math.log(p / total)]);
  const entropy = ranked.reduce((sum, [, p]) => sum - (p > 0 ? p * Math.log(p) : 0), 0);
  const greedy = [], margins = [];
  for (let i = 0; i < (request.greedy ?? 0); ++i) {
    let best = -1, value = -1, second = -1;
    for (const [id, p] of next.entries()) {
      if (p > value || (p === value && id < best)) [best, value, second] = [id, p, value];
      else if (p > second) second = p;
    }
    greedy.push(best);
    margins.push(Math.log(value) - Math.log(second));
    if (i + 1 < request.greedy) {
      next = (await sequence.controlledEvaluate([[best, {generateNext: {probabilities: true}}]])).at(-1).next.probabilities;
    }
  }
  out.push({top, entropy, greedy, margins});
}
process.stdout.write(JSON.stringify(out));
process.exit(0);
