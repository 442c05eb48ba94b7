"""Models of every architecture with one relation of their tables broken at a time (breakages.py): each file is served
right or refused with a key or tensor named, and `shoal inspect` says the same as `shoal serve`.

model_probe judges every variant with the program's own functions, the worker's loading and steps included; a sample of
them is given to the real `inspect` and `serve`. What is served right:
  - what the tokenizer and the log-probabilities are without the change, bit for bit, or
  - what a warning names, or
  - what another model of the same shape would be (OTHER_MODELS): a value that no other table of the file contradicts, or
  - a tensor rounded to another type: log-probabilities near the original's.

Takes a sample of the variants, the same each time. `--thorough`: all of them, and more models (hours); `--thorough
MODEL…`: of these models.
"""
import collections
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zlib

import harness

sys.path.insert(0, str(harness.ROOT / "tests" / "peer"))
import breakages  # noqa: E402
import gguf_file as g  # noqa: E402
import synth_arch  # noqa: E402

PROBE = str(harness.BUILD / "tests" / "tools" / "model_probe")
ORACLES = ["llama", "mistral3", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "mixtral", "gptoss", "glm4moe", "llama4",
           "deepseek2", "deepseek2yarn", "gemma3", "falcon", "commandr"]
UNKNOWN = ["qwen35", "qwen35moe", "qwen3next"]  # architectures that are refused by name
SYNTHETIC = ["phi3-mini4"]
MORE = ["phi3", "glm4moe-qk-norm", "deepseek3-legacy", "deepseek3-fused", "glm-flash-mtp", "gpt-oss-mxfp4", "falcon-7b",
        "command-r-plus", "mistral3-moe", "llama-fused-qkv", "llama-biases"]
SPM = "llama with a SentencePiece vocabulary"
VARIANTS = 28 if harness.SLOWDOWN == 1 else 12  # of each model
# One of so many is given to the real programs: by whether all variants are judged, by how.
REAL = {False: {"served": 30, "refused": 6}, True: {"served": 40, "refused": 20}}

# Changes of one key after which the file is another model that nothing contradicts: (class, end of the key).
FREE_VALUES = [
    r"general\.name", r"tokenizer\.chat_template", r"tokenizer\.ggml\.\w+_token_id", r"tokenizer\.ggml\.add_\w+",
    r"tokenizer\.ggml\.pre", r"context_length", r"attention\.layer_norm(_rms)?_epsilon", r"attention\.scale",
    r"attention\.sliding_window", r"attention\.temperature_(scale|length)", r"rope\.dimension_count", r"rope\.freq_base(_swa)?",
    r"rope\.scaling\.\w+", r"expert_used_count", r"expert_gating_func", r"expert_weights_(scale|norm)",
    r"expert_group(_used)?_count", r"logit_scale", r"final_logit_softcapping"]
# Keys that a file may leave out: what stands there then is the format's default, or there is no such thing.
DEFAULTS = FREE_VALUES
# Tensors that a whole model may have or not.
FREE_TENSORS = [r"output\.weight", r"output\.bias", r"rope_freqs\.weight", r".*\.scale"]
OTHER_MODELS = {"value": FREE_VALUES, "missing": DEFAULTS, "tensor missing": FREE_TENSORS, "surplus": FREE_TENSORS}
NAMED = re.compile(r"(key|keys|tensor|tensors) '[\w.-]+'")
ROUNDING = 0.5  # of a log-probability, Q8_0 included


def spm_model(source):
    """The model with the first tokens of a real SentencePiece vocabulary instead of its own."""
    file, vocabulary = g.read(source), g.read(harness.shared("vocabs/llama-spm.gguf"))
    rows = file.tensor("token_embd.weight").dims[1]
    for key in [key for key in file.metadata if key.startswith("tokenizer.")]:
        del file.metadata[key]
    for key, value in vocabulary.metadata.items():
        if key.startswith("tokenizer."):
            file.metadata[key] = g.Value(value.kind, value.value[:rows], value.element) if value.kind == g.ARRAY else value
    return file


def read_model(name):
    if name == SPM:
        return spm_model(harness.oracle("llama")[0])
    if name in synth_arch.MODELS and name not in ORACLES:
        return g.read(synth_arch.generate(name, harness.BUILD / "synth")[0])
    return g.read(harness.oracle(name)[0])


class Probe:
    """A model on a slate and a model_probe that judges what is written there."""

    def __init__(self, name, folder):
        self.path = os.path.join(folder, re.sub(r"\W", "-", name) + ".gguf")
        self.slate = breakages.Slate(read_model(name), self.path)
        self.process = subprocess.Popen([PROBE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.DEVNULL)
        self.unbroken = self.judge(self.slate.unbroken())

    def judge(self, variant):
        self.slate.write(variant)
        self.process.stdin.write(self.path + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)
        os.remove(self.path)

    def problem(self, variant, result):
        """What is wrong with how a variant is judged, or None."""
        if "ended" in result:
            return f"the process ended: {result['ended']}"
        if result["servable"] != result["served"]:
            return f"inspect and serve disagree: {result.get('why_not')} / {result.get('refusal')}"
        if not result["served"]:
            if result["refusal"] != result["why_not"]:
                return f"inspect: {result['why_not']}; serve: {result['refusal']}"
            strict = variant.kind in ("type", "twice", "tensor type", "shape", "renamed", "tensor missing")
            named = variant.subject in result["why_not"] or (not strict and NAMED.search(result["why_not"]))
            if variant.kind in ("nothing", "same", "rounded"):
                return f"refused: {result['why_not']}"
            return None if named else f"what is wrong is not named: {result['why_not']}"
        return self.problem_of_served(variant, result)

    def is_single(self, bias):
        """Whether one block only has the matrix that the bias is of."""
        tail = re.sub(r"^blk\.\d+\.", "", bias).removesuffix("bias") + "weight"
        return sum(re.sub(r"^blk\.\d+\.", "", info.name) == tail for info in self.slate.tensors) == 1

    def problem_of_served(self, variant, result):
        same = all(result[part] == self.unbroken[part] for part in ("text", "answers", "context"))
        if same:
            return None
        if variant.kind == "same":
            return "the same model answers otherwise"
        if any(variant.subject in warning for warning in result["warnings"]):
            return None
        if variant.kind == "rounded":
            # Of the first token: a near tie there leads to others behind it.
            worst = abs(result["values"][0] - self.unbroken["values"][0])
            # A router's rounding may choose another expert.
            allowed = ROUNDING * (4 if ".ffn_gate_inp." in variant.subject else 1)
            return None if worst < allowed else f"the log-probability differs by {worst}"
        if variant.kind == "surplus" and variant.subject.endswith(".bias") and self.is_single(variant.subject):
            return None  # a bias that no other block could contradict
        for pattern in OTHER_MODELS.get(variant.kind, []):
            if re.fullmatch(r"([\w-]+\.)?" + pattern, variant.subject):
                return None
        return "served without a word as another model"


@contextlib.contextmanager
def shown(what):
    """A failure is shown when it happens: all variants take hours."""
    try:
        yield
    except AssertionError as error:
        print(f"{what}: {error}"[:1000], flush=True)
        raise


class Breakages(unittest.TestCase):
    thorough = False
    models = [*ORACLES, *SYNTHETIC, SPM]

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)

    def probe(self, name):
        probe = Probe(name, self.folder)
        self.addCleanup(probe.close)
        self.assertTrue(probe.unbroken.get("served"), probe.unbroken)
        self.assertEqual(probe.unbroken["warnings"], [])
        return probe

    def sample(self, probe):
        """Variants spread over all classes, chosen by their names."""
        classes = collections.defaultdict(list)
        for variant in breakages.variants(probe.slate):
            classes[variant.kind].append(variant)
        for variants in classes.values():
            variants.sort(key=lambda v: zlib.crc32((probe.path.rsplit("/", 1)[1] + v.name).encode()))
        chosen = []
        while len(chosen) < VARIANTS and any(classes.values()):
            chosen += [variants.pop(0) for variants in classes.values() if variants]
        return chosen[:VARIANTS]

    def judge_all(self, name):
        probe = self.probe(name)
        counts = collections.Counter()
        for variant in breakages.variants(probe.slate) if self.thorough else self.sample(probe):
            with self.subTest(model=name, broken=variant.name), shown(f"{name}: {variant.name}"):
                result = probe.judge(variant)
                problem = probe.problem(variant, result)
                if problem:
                    self.fail(problem)
                kind = "served" if result["served"] else "refused"
                counts[kind] += 1
                if counts[kind] % REAL[self.thorough][kind] == 1:
                    counts["really " + kind] += 1
                    self.agree(probe, result)
        print(f"{name}: {dict(counts)}", flush=True)

    def agree(self, probe, result):
        """The real `inspect` and `serve` say of the file on the slate what model_probe says."""
        done = subprocess.run([harness.SHOAL, "inspect", probe.path, "--json"], capture_output=True, text=True, timeout=120,
                              check=False)
        if done.returncode != 0:  # a header that cannot be read
            self.assertEqual(done.returncode, 2)
            self.assertIn(result["why_not"], done.stderr)
        else:
            said = json.loads(done.stdout)
            self.assertEqual(said["servable"], result["servable"])
            self.assertEqual(said.get("why_not"), result.get("why_not"))
        if result["served"]:
            return self.really_serve(probe, result)
        done = subprocess.run([harness.SHOAL, "serve", probe.path, "--workers", "1", "--port", "0"], capture_output=True,
                              text=True, timeout=60 * harness.SLOWDOWN, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        # The end of a long refusal may be cut.
        self.assertIn(result["why_not"][:300], done.stderr)
        return None

    def really_serve(self, probe, result):
        with harness.Server(probe.path, workers=1, args=("--kv-type", "f32", "--threads", "1")) as server:
            for warning in result["warnings"]:
                self.assertIn(warning[:100], server.output())
            body = {"prompt": result["prompt"], "max_tokens": len(result["values"]), "temperature": 0, "logprobs": 1,
                    "ignore_eos": True}
            choice = server.client.ok("/v1/completions", body)["choices"][0]
            for mine, served in zip(result["values"], choice["logprobs"]["token_logprobs"]):
                self.assertAlmostEqual(mine, served, delta=1e-4)

    def test_every_architecture(self):
        for name in self.models:
            self.judge_all(name)

    def test_architectures_that_are_not_served(self):
        for name in UNKNOWN:
            path = os.path.join(self.folder, "unknown.gguf")
            file = g.read(harness.oracle(name)[0])
            file.write(path)
            architecture = file.metadata["general.architecture"].value
            for command in (["inspect"], ["serve", "--port", "0"]):
                with self.subTest(model=name, command=command):
                    done = subprocess.run([harness.SHOAL, *command, path], capture_output=True, text=True,
                                          timeout=60 * harness.SLOWDOWN, check=False)
                    self.assertEqual(done.returncode, 0 if command == ["inspect"] else 2)
                    self.assertIn(f"architecture '{architecture}'", done.stdout + done.stderr)

    def test_no_architecture_is_left_out(self):
        done = subprocess.run([harness.SHOAL, "inspect", harness.oracle(UNKNOWN[0])[0], "--json"], capture_output=True,
                              text=True, timeout=60, check=True)
        supported = json.loads(done.stdout)["why_not"].split("supported: ")[1].split(", ")
        mine = {read_model(name).metadata["general.architecture"].value for name in [*ORACLES, *SYNTHETIC]}
        self.assertEqual(sorted(mine), sorted(supported))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--thorough"]:
        Breakages.thorough, Breakages.models = True, sys.argv[2:] or Breakages.models + MORE
        del sys.argv[1:]
    harness.main()
