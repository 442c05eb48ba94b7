// llama.cpp's log-probabilities, for comparison. Standard input: {"model": path, "cases": [[token ids], …],
// "top": n, "greedy": m}; standard output: [{"top": [[id, ln p], …], "greedy": [ids]}, …] for the token after each case.
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
  contextSize: longest, flashAttention: false, threads: 1,
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
  const top = ranked.slice(0, request.top).map(([id, p]) => [id, Math.log(p)]);
  const greedy = [];
  for (let i = 0; i < (request.greedy ?? 0); ++i) {
    let best = -1, value = -1;
    for (const [id, p] of next.entries()) if (p > value || (p === value && id < best)) [best, value] = [id, p];
    greedy.push(best);
    if (i + 1 < request.greedy) {
      next = (await sequence.controlledEvaluate([[best, {generateNext: {probabilities: true}}]])).at(-1).next.probabilities;
    }
  }
  out.push({top, greedy});
}
process.stdout.write(JSON.stringify(out));
process.exit(0);
