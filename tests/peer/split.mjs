// Words as the expressions of the vocabularies cut them, by the regular expressions of V8: a second opinion where
// llama.cpp approximates the expression. Standard input: {"names": [pre-tokenizer, …], "texts": [text, …]}; standard
// output: [[[word, …], …], …]. Needs node only.
import fs from "node:fs";

const SPACE = "\\t-\\r\\x20\\x85\\p{Z}";  // White_Space; V8's \s has U+FEFF and lacks U+0085
const WHITE_SPACE = `[${SPACE}]*[\\r\\n]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`;
const CONTRACTION = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
const UPPER = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const LOWER = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const withoutHan = (set) => `[${set}--\\p{Script=Han}]`;
const words = (upper, lower, end) =>
  `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${end}|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${end}|`;
const symbols = (ends) => ` ?[^${SPACE}\\p{L}\\p{N}]+[${ends}]*|`;

const cased = words(UPPER, LOWER, `${CONTRACTION}?`);
const o200k = [`${cased}\\p{N}{1,3}|${symbols("\\r\\n\\/")}${WHITE_SPACE}`];
const hanRange = "[\\u4e00-\\u9fa5\\u3040-\\u309f\\u30a0-\\u30ff]+";
const wideRange = "[\\u4e00-\\u9fa5\\u0800-\\u4e00\\uac00-\\ud7ff]+";
const EXPRESSIONS = {
  "gpt-4o": o200k,
  "tekken": [`${words(UPPER, LOWER, "")}\\p{N}|${symbols("\\r\\n\\/")}${WHITE_SPACE}`],
  "youtu": [
    "[\\uac00-\\ud7a3\\u3131-\\u318e]+|[！…“”‘’—：；，、-\\u303f\\ufe30-\\ufe4f]+|[\\u3105-\\u312f]+|" + hanRange,
    `${cased}\\p{N}|${symbols("\\r\\n\\/")}${WHITE_SPACE}`
  ],
  "kimi-k2": [
    `\\p{Script=Han}+|${words(withoutHan(UPPER), withoutHan(LOWER), `${CONTRACTION}?`)}` +
      `\\p{N}{1,3}|${symbols("\\r\\n")}${WHITE_SPACE}`
  ],
  "deepseek-coder": ["[\\r\\n]", `[${SPACE}]?\\p{L}+`, `[${SPACE}]?\\p{P}+`, wideRange, "\\p{N}"]
};

function cut(piece, expression) {
  const out = [];
  let done = 0;
  for (const match of piece.matchAll(expression)) {
    if (match.index > done) out.push(piece.slice(done, match.index));
    out.push(match[0]);
    done = match.index + match[0].length;
  }
  if (done < piece.length) out.push(piece.slice(done));
  return out;
}

const {names, texts} = JSON.parse(fs.readFileSync(0, "utf8"));
const out = names.map((name) => {
  const expressions = EXPRESSIONS[name].map((expression) => new RegExp(expression, "gv"));
  return texts.map((text) => expressions.reduce(
    (pieces, expression) => pieces.flatMap((piece) => cut(piece, expression)), text === "" ? [] : [text]));
});
process.stdout.write(JSON.stringify(out));
