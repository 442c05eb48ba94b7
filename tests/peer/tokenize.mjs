// llama.cpp's token ids, for comparison. Standard input: {"models": [path, …], "texts": [text, …]}; standard output:
// [[[ids], …] or null where llama.cpp refuses the file, …]. Only the vocabularies are loaded.
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";
import path from "node:path";
import fs from "node:fs";

const require = createRequire(path.join(process.env.SHOAL_PEER_MODULES, "x.js"));
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(require.resolve("node-llama-cpp")).href);

const request = JSON.parse(fs.readFileSync(0, "utf8"));
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.disabled, maxThreads: 1});
const out = [];
for (const modelPath of request.models) {
  let model;
  try {
    model = await llama.loadModel({modelPath, vocabOnly: true, useMmap: false});
  } catch (error) {
    process.stderr.write(`${modelPath}: ${error}\n`);
    out.push(null);
    continue;
  }
  out.push(request.texts.map((text) => [...model.tokenize(text, false)]));
  await model.dispose();
}
// Not before everything is written: exit() drops what a pipe has not taken yet.
process.stdout.write(JSON.stringify(out), () => process.exit(0));
