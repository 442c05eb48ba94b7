"""Pre-tokenizers against llama.cpp: the same byte-level vocabulary under every name, the same texts, the same ids.

The vocabulary (vocab_tool make) turns every stretch of the texts into one token, so ids show where words were cut.
What differs is listed in DEVIATIONS, with reasons in docs/tokenizers.md; anything else fails, and so does a listed
kind of deviation that is gone. Where llama.cpp approximates, the words are also compared with what V8 makes of the
vocabulary's own expressions (split.mjs).

usage: test_pretokenizers.py VOCAB_TOOL PEER_FOLDER TEMPLATE_MODEL    exits 77 (skipped) without the peer
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

HERE = pathlib.Path(__file__).resolve().parent

TEXTS = [
    # words, contractions, case
    "Hello world", " Hello  World!", "hello,world", "HelloWorld camelCase HTTPServer iPhone XMLHttpRequest",
    "I'm you're he'll we've they'd it's can't", "I'M YOU'RE HE'LL WE'VE THEY'D IT'S CAN'T", "'s'tis 'twas o'clock rock'n'roll",
    "it\u2019s \u2018quoted\u2019 \u201cdouble\u201d", "don''t ''s '", "x'Sy 'LLama 'Ve",
    # digits
    "1", "12", "123", "1234", "12345", "1234567890", "3.14159", "1,234,567.89", "v1.2.3-rc4", "a1b2c3", "x123y", "2024-01-31T23:59:59Z",
    "\u0661\u0662\u0663\u0664", "\u096a\u096b\u096c\u096d", "\u00bd \u00b2 \u2167 \u2460\u2461", "\uff11\uff12\uff13\uff14",
    # white space
    " ", "  ", "   ", "\t", "\n", "\n\n", " \n", "\n ", " \n \n ", "\r\n", "a\r\nb\r\n\r\nc", "a \n b", "a  \n\n  b", "a\t\tb", "a \t b",
    "  leading", "trailing  ", "many      spaces    here", "a\u00a0b", "a\u00a0\u00a0 b", "a\u3000b \u3000 c", "a\u2003\u2009b", "x\u0085y",
    "line\u2028separator\u2029end", "a\u200bb", "a\u180eb \u180e c", "\ufeffbom", "a\x0bb\x0cc", "\x1f\x7f\x00x",
    # symbols
    "!", "!!!", "...", " ...", "a...b", "(a)[b]{c}", "a+b=c", "$100 50% #1 @me", "foo_bar __init__ a__b", "path/to/file.txt", "C:\\dir\\x",
    "https://example.com/a?b=c&d=e#f", "a/b//c///d\n/e", "/\n/\r\n", "<div class=\"x\">y</div>", "a|b||c", "`code` ``x``", "^~^ <=>", "!?\n\n?!",
    ".hello ,world !x :y -z", " .hello", "=\n\n=", "--flag=value -x", "\u20ac5 \u00a310 \u00a5 \u00a9\u00ae\u2122 \u00b0C", "\u2014dash\u2013dash\u2026",
    # code
    "def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; ++i) {\n\ta[i] = b[i];\n}\n", "if(a&&b||!c)return;//ok\r\n", "\t\t\tif x:\n\n\n\t\tpass",
    "#include <vector>\n#define X(a) a##b", "SELECT * FROM t WHERE a='b';--x", "{\"key\": [1, 2.5, null]}\n",
    # Latin with marks, composed and decomposed
    "na\u00efve caf\u00e9 \u00e0 \u00c9t\u00e9 \u00dcBER \u00dfstra\u00dfe", "cafe\u0301 e\u0301te\u0301", "\u0301x \u0301\u0301", "a\u0300\u0301b\u0308", "Z\u0351\u0358\u0347algo",
    "\u01c5\u01c8 \u0131\u0130 \ufb01x \u017ft", "it'\u017f \u212aelvin",
    # other scripts
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u041c\u043e\u0441\u043a\u0412\u0430", "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u039a\u03cc\u03c3\u03bc\u03b5", "\u0540\u0561\u0575 \u10e5\u10d0\u10e0\u10d7\u10e3\u10da\u10d8",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c \u0643\u064a\u0641\u061f", "\u0645\u064f\u062d\u064e\u0645\u0651\u064e\u062f", "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd \u05e2\u05d5\u05dc\u05dd",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", "\u09ac\u09be\u0982\u09b2\u09be \u09ad\u09be\u09b7\u09be", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01 \u0e17\u0e35\u0e48\u0e19\u0e35\u0e48",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01\u8fd9\u662f123\u6d4b\u8bd5abc", "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c\u3001\u30c6\u30b9\u30c8\u3067\u3059\u3002", "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4! \u3131\u314f", "\u6f22\u5b57\u304b\u306a\u3005\u3007 kana\u30fc",
    "\u3400\u4e00\u9fff\uf900", "\ud840\udc00\ud869\uded6x".encode("utf-16", "surrogatepass").decode("utf-16"), "\u1800\u182e\u180b\u1823", "\u13a0\uab70\u1c90",
    # emoji and beyond
    "\U0001f600", "a\U0001f600b", " \U0001f468\u200d\U0001f469\u200d\U0001f467 x", "\U0001f1e9\U0001f1ea\U0001f3f3\ufe0f", "\u2764\ufe0f!", "\U0001d400\U0001d552 \U00010400", "\ue000\U000f0000",
    # mixtures
    "abc\u4f60\u597ddef", "1\u4e002\u4e8c", "\u041f\u0440Test\u03b1\u03b2", "foo\u0301BAR\u0308baz", "aB\u0301c Cd\u0301E", "$\u4f60 !\u0430 .\u00e9", "a\n\u4e16\n\n\u754c ", "\uff01\uff01a\u3002\u3002",
    "word\u00a0word 1\u00a02", "<|im_end|> <s></s> [INST]",
]

# What random texts are made of.
PARTS = ["a", "b", "Q", "X", "yz", "'s", "'LL", "'", "1", "23", " ", " ", "  ", "\n", "\r\n", "\t", ".", ",", "!?", "-", "/", "_", "$", "+", "`", "|",
         "\u00e9", "\u00c9", "\u0301", "\u0436", "\u0416", "\u4e2d", "\u3042", "\u30ab", "\uac00", "\u0e01", "\u0e31", "\u0641", "\u0651", "\u0905", "\u093e",
         "\u3000", "\u00a0", "\u2026", "\u3002", "\uff0c", "\u0661", "\u00bd", "\U0001f600", "\u20ac", "\u2019", "\u200d"]


def random_texts(seed, count):
    rng = random.Random(seed)
    return ["".join(rng.choice(PARTS) for _ in range(rng.randint(2, 14))) for _ in range(count)]


def run_tool(tool, *arguments, texts=None):
    done = subprocess.run([tool, *arguments], input=None if texts is None else json.dumps(texts), capture_output=True,
                          text=True, timeout=300, check=False)
    if done.returncode != 0:
        sys.exit(f"vocab_tool {' '.join(arguments)}: {done.stderr}")
    return json.loads(done.stdout) if done.stdout else None


def run_script(script, request, peer):
    done = subprocess.run(["node", str(HERE / script)], input=json.dumps(request), capture_output=True, text=True,
                          timeout=600, check=False, env={**os.environ, "SHOAL_PEER_MODULES": peer})
    if done.returncode != 0:
        sys.exit(f"{script} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout), done.stderr


def words_against_v8(tool, peer, seed):
    names = ["gpt-4o", "tekken", "youtu", "kimi-k2", "deepseek-coder"]
    texts = TEXTS + random_texts(seed, 3000)
    theirs, _ = run_script("split.mjs", {"names": names, "texts": texts}, peer)
    for name, rows in zip(names, theirs):
        ours = run_tool(tool, "split", name, texts=texts)
        different = [i for i in range(len(texts)) if ours[i] != rows[i]]
        print(f"{name}: {len(texts) - len(different)} of {len(texts)} texts cut as V8 cuts them")
        for i in different:
            yield f"{name}: {texts[i]!a}\n    ours {ours[i]!a}\n    V8   {rows[i]!a}"


def has_marks_or_cased_non_ascii(text):
    return any(unicodedata.category(c)[0] == "M" or (ord(c) > 127 and unicodedata.category(c) in CASED) for c in text)


def has_case_change(text):
    """An upper-case letter after something that may end a lower-case word."""
    kinds = [unicodedata.category(c) for c in text]
    return any(a in ("Ll", "Lm", "Lo", "Mn", "Mc", "Me") and b in ("Lu", "Lt") for a, b in zip(kinds, kinds[1:]))


def has_marks_or_case_change(text):
    return has_case_change(text) or any(unicodedata.category(c)[0] == "M" for c in text)


def has_wide_space(text):
    return any(unicodedata.category(c)[0] == "Z" and 0x800 <= ord(c) <= 0x4e00 for c in text)


CASED = ("Lu", "Ll", "Lt")
# Where Shoal follows the vocabulary's own expression and llama.cpp approximates it: {names: texts that may differ}.
DEVIATIONS = [
    (("gpt-4o", "llama4", "kanana2", "minimax-m2", "talkie", "tekken"), has_marks_or_cased_non_ascii),
    (("youtu",), has_case_change),
    (("kimi-k2",), has_marks_or_case_change),
    (("deepseek-coder", "deepseek-llm"), has_wide_space),
]
# Names newer than the pinned llama.cpp. None at present.
UNKNOWN_TO_PEER = ()


def problems_of(name, texts, ours, theirs):
    may_differ = next((rule for names, rule in DEVIATIONS if name in names), None)
    different = [text for text, a, b in zip(texts, ours, theirs) if a != b]
    allowed = [text for text in different if may_differ and may_differ(text)]
    if may_differ and not allowed:
        yield f"{name}: agrees with the peer everywhere; take it out of DEVIATIONS"
    for text in different:
        if text not in allowed:
            i = texts.index(text)
            yield f"{name}: {text!a}\n    ours   {ours[i]}\n    theirs {theirs[i]}"
    print(f"{name}: {len(texts) - len(different)} of {len(texts)} texts equal" +
          (f", {len(different)} of a known kind differ" if allowed else ""))


def main():
    tool, peer, template = sys.argv[1:4]
    if not (pathlib.Path(peer) / "node_modules" / "node-llama-cpp").exists():
        print(f"SKIP: needs node-llama-cpp in {peer}/node_modules (tests/peer/install.sh {peer})")
        sys.exit(77)
    seed = int(os.environ.get("SHOAL_TEST_SEED", "7"))
    print(f"SHOAL_TEST_SEED={seed}")
    names = run_tool(tool, "names")
    texts = TEXTS + random_texts(seed, 150)
    problems = list(words_against_v8(tool, peer, seed))
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/{name}.gguf" for name in names]
        run_tool(tool, "make", template, files[0], names[0], texts=texts)
        for name, file in zip(names[1:], files[1:]):
            run_tool(tool, "rewrite", files[0], file, name)
        theirs, log = run_script("tokenize.mjs", {"models": files, "texts": texts}, peer)
        for name, file, rows in zip(names, files, theirs):
            if (rows is None) != (name in UNKNOWN_TO_PEER):
                problems.append(f"{name}: the peer {'refuses' if rows is None else 'knows'} it\n{log}")
            if rows is not None:
                problems += problems_of(name, texts, run_tool(tool, "tokenize", file, texts=texts), rows)
    sys.exit("\n".join(problems) or 0)


if __name__ == "__main__":
    main()
