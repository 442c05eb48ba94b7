"""Small random models of architectures and shapes that no reference file covers. Each function of MODELS makes one.

Widths are odd multiples of 32 where the architecture allows it, head counts do not divide by three, and windows, chunks
and original context lengths are short, so that sequences of 150 tokens cross them.
"""
import hashlib
import pathlib

import synth_builder
from synth_builder import Builder


def start(builder, layers, width, heads, kv_heads, ff, head=32, rope=None, context=4096, base=10000.0, eps="rms",
          tied=False):
    """The metadata every architecture has, and the embedding. Blocks follow, then finish()."""
    norm = {"rms": "attention__layer_norm_rms_epsilon", "layer": "attention__layer_norm_epsilon"}[eps]
    builder.keys(block_count=layers, context_length=context, embedding_length=width, feed_forward_length=ff,
                 attention__head_count=heads, attention__head_count_kv=kv_heads, attention__key_length=head,
                 attention__value_length=head, rope__dimension_count=rope or head, rope__freq_base=base,
                 vocab_size=builder.vocabulary, **{norm: 1e-5})
    builder.matrix("token_embd", width, builder.vocabulary, gain=(2.0 if tied else 0.5) * (1 if tied else width ** 0.5))
    builder.norm("output_norm", width)
    if not tied:
        builder.matrix("output", width, builder.vocabulary, gain=2.0)


def attention(builder, prefix, width, heads, kv_heads, head=32, bias=False, qk_norm=False, gain=1.0):
    project = builder.linear if bias else builder.matrix
    project(prefix + "attn_q", width, heads * head)
    project(prefix + "attn_k", width, kv_heads * head)
    project(prefix + "attn_v", width, kv_heads * head)
    builder.matrix(prefix + "attn_output", heads * head, width, gain=gain)
    if qk_norm:
        builder.norm(prefix + "attn_q_norm", head)
        builder.norm(prefix + "attn_k_norm", head)


def swiglu(builder, prefix, width, ff, suffix="", gain=1.0):
    builder.matrix(f"{prefix}ffn_gate{suffix}", width, ff)
    builder.matrix(f"{prefix}ffn_up{suffix}", width, ff)
    builder.matrix(f"{prefix}ffn_down{suffix}", ff, width, gain=gain)


def experts(builder, prefix, width, ff, count, selection_bias=False, gain=2.0, fused=False):
    builder.matrix(prefix + "ffn_gate_inp", width, count)
    if selection_bias:
        builder.vector(prefix + "exp_probs_b.bias", count, 0.2)
    if fused:
        builder.matrix(prefix + "ffn_gate_up_exps", width, 2 * ff, count)
    else:
        builder.matrix(prefix + "ffn_gate_exps", width, ff, count)
        builder.matrix(prefix + "ffn_up_exps", width, ff, count)
    builder.matrix(prefix + "ffn_down_exps", ff, width, count, gain=gain)


def phi3(factors=False, separate=False):
    b = Builder("phi3", 101 + factors + 2 * separate)
    width, heads, kv, head, ff = 128, 4, 2, 32, 160
    rope = 24 if separate else head
    start(b, 3, width, heads, kv, ff, head, rope, tied=separate)
    if factors:
        b.keys(rope__scaling__original_context_length=1024, rope__scaling__attn_factor=1.19)
        if separate:
            b.keys(rope__scaling__type="longrope")
        b.vector("rope_factors_long.weight", rope // 2, 2.0, 12.0)
        b.vector("rope_factors_short.weight", rope // 2, 0.1, 1.2)
    for i in range(3):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        if separate:
            attention(b, p, width, heads, kv, head)
        else:
            b.matrix(p + "attn_qkv", width, (heads + 2 * kv) * head)
            b.matrix(p + "attn_output", heads * head, width)
        b.norm(p + "ffn_norm", width)
        b.matrix(p + "ffn_up", width, 2 * ff)
        b.matrix(p + "ffn_down", ff, width, gain=2.0)
    return b.file()


def glm4moe(qk_norm, sections=None):
    """Three blocks and a prediction block, which decoding leaves alone."""
    b = Builder("glm4moe", 110 + qk_norm)
    width, heads, kv, ff, count = 96, 4, 2, 64, 8
    start(b, 4, width, heads, kv, 160, rope=16, base=1e6)
    b.keys(nextn_predict_layers=1, leading_dense_block_count=1, expert_count=count, expert_used_count=3,
           expert_shared_count=1, expert_feed_forward_length=ff, expert_weights_norm=True, expert_weights_scale=1.7)
    if not qk_norm:
        b.keys(expert_gating_func=2)
    if sections:
        b.keys(rope__dimension_sections=sections)
    for i in range(4):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        attention(b, p, width, heads, kv, bias=True, qk_norm=qk_norm)
        b.norm(p + "post_attention_norm", width)
        if i == 0:
            swiglu(b, p, width, 160)
        else:
            experts(b, p, width, ff, count, selection_bias=True)
            swiglu(b, p, width, ff, "_shexp")
    b.matrix("blk.3.nextn.eh_proj", 2 * width, width)
    b.norm("blk.3.nextn.enorm", width)
    b.norm("blk.3.nextn.hnorm", width)
    b.norm("blk.3.nextn.shared_head_norm", width)
    if not qk_norm:
        b.matrix("blk.3.nextn.embed_tokens", width, b.vocabulary)
        b.matrix("blk.3.nextn.shared_head_head", width, b.vocabulary)
    return b.file()


def deepseek2(b, layers, q_lora, mla, moe_keys, selection_bias=False, yarn=None, tied=False, nextn=0, width=64,
              fused=False, dense=1):
    """Low-rank attention: 32 features without and 16 with position per head, values of 24, rank 48."""
    heads, nope, rope, value, rank, ff, count, gain = 4, 32, 16, 24, 48, 64, 8, min(1.0, 2.0 / layers ** 0.5)
    start(b, layers + nextn, width, heads, 1 if mla else heads, 128, nope + rope, rope, tied=tied)
    b.keys(attention__kv_lora_rank=rank, leading_dense_block_count=dense, expert_count=count, expert_shared_count=2,
           expert_feed_forward_length=ff, attention__value_length=value, **moe_keys)
    if mla:
        b.keys(attention__key_length=rank + rope, attention__value_length=rank,
               attention__key_length_mla=nope + rope, attention__value_length_mla=value)
    if q_lora:
        b.keys(attention__q_lora_rank=q_lora)
    if nextn:
        b.keys(nextn_predict_layers=nextn)
    if yarn:
        b.keys(rope__scaling__type="yarn", rope__scaling__factor=yarn[0],
               rope__scaling__original_context_length=64, rope__scaling__yarn_log_multiplier=yarn[1])
    for i in range(layers + nextn):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        if q_lora:
            b.matrix(p + "attn_q_a", width, q_lora)
            b.norm(p + "attn_q_a_norm", q_lora)
            b.matrix(p + "attn_q_b", q_lora, heads * (nope + rope))
        else:
            b.matrix(p + "attn_q", width, heads * (nope + rope))
        b.matrix(p + "attn_kv_a_mqa", width, rank + rope)
        b.norm(p + "attn_kv_a_norm", rank)
        if mla:
            b.matrix(p + "attn_k_b", nope, rank, heads)
            b.matrix(p + "attn_v_b", rank, value, heads)
        else:
            b.matrix(p + "attn_kv_b", rank, heads * (nope + value))
        b.matrix(p + "attn_output", heads * value, width, gain=gain)
        b.norm(p + "ffn_norm", width)
        if i < dense:
            swiglu(b, p, width, 128, gain=gain)
        else:
            experts(b, p, width, ff, count, selection_bias, gain=2 * gain, fused=fused)
            swiglu(b, p, width, 2 * ff, "_shexp", gain=gain)
    if nextn:
        p = f"blk.{layers}.nextn."
        b.matrix(p + "eh_proj", 2 * width, width)
        for name in ("enorm", "hnorm", "shared_head_norm"):
            b.norm(p + name, width)
    return b.file()


def deepseek2_lite_legacy():
    """DeepSeek-V2-Lite: 26 or 27 layers mean one query matrix; softmax without a key, weights as they are."""
    return deepseek2(Builder("deepseek2", 120), 26, 0, False,
                     {"expert_used_count": 3, "expert_weights_scale": 1.0}, yarn=(40.0, 0.0707))


def deepseek2_lite():
    return deepseek2(Builder("deepseek2", 121), 27, 0, True,
                     {"expert_used_count": 3, "expert_weights_scale": 1.3, "expert_gating_func": 1,
                      "expert_weights_norm": False}, yarn=(40.0, 0.0707))


def deepseek2_legacy():
    """DeepSeek-V2: a low-rank query, softmax."""
    return deepseek2(Builder("deepseek2", 122), 3, 40, False,
                     {"expert_used_count": 3, "expert_weights_scale": 4.0, "expert_weights_norm": False},
                     yarn=(40.0, 0.1))


V3 = {"expert_used_count": 3, "expert_weights_scale": 2.5, "expert_weights_norm": True, "expert_gating_func": 2,
      "expert_group_count": 4, "expert_group_used_count": 2}


def deepseek3():
    return deepseek2(Builder("deepseek2", 123), 3, 40, True, V3, selection_bias=True, yarn=(40.0, 0.1))


def deepseek3_legacy():
    return deepseek2(Builder("deepseek2", 124), 3, 40, False, V3, selection_bias=True)


def deepseek3_variant(seed, temperature=False, fused=False, **changes):
    builder = Builder("deepseek2", seed)
    if temperature:
        builder.keys(attention__temperature_scale=0.4, attention__temperature_length=32)
    return deepseek2(builder, 3, 40, True, {**V3, **changes}, selection_bias=True, yarn=(40.0, 0.1), fused=fused)


def glm_flash(nextn):
    """GLM-4.7-Flash: told by 47 layers and its vocabulary, the gating is sigmoid though no key says so. Most layers are
    dense: over 46 random mixtures some token always comes so near a tie between experts that rounding decides."""
    return deepseek2(Builder("deepseek2", 125 + nextn, vocabulary=154880), 47, 40, True,
                     {"expert_used_count": 4, "expert_weights_scale": 1.8, "expert_weights_norm": True},
                     selection_bias=True, tied=True, nextn=nextn, width=32, dense=42)


def mixtral():
    b = Builder("llama", 130)
    width, ff, count = 128, 96, 8
    start(b, 3, width, 4, 2, ff)
    b.keys(expert_count=count, expert_used_count=2)
    for i in range(3):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        attention(b, p, width, 4, 2)
        b.norm(p + "ffn_norm", width)
        experts(b, p, width, ff, count)
    return b.file()


def qwen3moe():
    """The experts' width follows from feed_forward_length: no key says it."""
    b = Builder("qwen3moe", 131)
    width, ff, count = 64, 96, 64
    start(b, 2, width, 4, 2, 8 * ff, base=1e6)
    b.keys(expert_count=count, expert_used_count=8)
    for i in range(2):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        attention(b, p, width, 4, 2, qk_norm=True)
        b.norm(p + "ffn_norm", width)
        experts(b, p, width, ff, count, gain=3.0)
    return b.file()


def qwen2moe():
    b = Builder("qwen2moe", 132)
    width, ff, count = 96, 64, 12
    start(b, 3, width, 3, 1, 160, base=1e6)
    b.keys(expert_count=count, expert_used_count=4, expert_feed_forward_length=ff,
           expert_shared_feed_forward_length=160)
    for i in range(3):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        attention(b, p, width, 3, 1, bias=True)
        b.norm(p + "ffn_norm", width)
        experts(b, p, width, ff, count, gain=4.0)
        swiglu(b, p, width, 160, "_shexp")
        b.vector(p + "ffn_gate_inp_shexp.weight", width, width ** -0.5)
    return b.file()


def gpt_oss(mxfp4):
    b = Builder("gpt-oss", 133 + mxfp4)
    width, heads, kv, ff, count = 96, 4, 2, 96, 6
    start(b, 4, width, heads, kv, ff, base=150000.0)
    b.keys(expert_count=count, expert_used_count=4, expert_feed_forward_length=ff, attention__sliding_window=24,
           rope__scaling__type="yarn", rope__scaling__factor=32.0, rope__scaling__original_context_length=64)
    for i in range(4):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        attention(b, p, width, heads, kv, bias=True)
        b.vector(p + "attn_output.bias", width, 0.3)
        b.vector(p + "attn_sinks.weight", heads, 1.0)
        b.norm(p + "post_attention_norm", width)
        b.matrix(p + "ffn_gate_inp", width, count)
        b.vector(p + "ffn_gate_inp.bias", count, 0.3)
        for name, cols, rows in (("gate", width, ff), ("up", width, ff), ("down", ff, width)):
            if mxfp4:
                b.mxfp4(f"{p}ffn_{name}_exps", cols, rows, count)
            else:
                b.matrix(f"{p}ffn_{name}_exps", cols, rows, count)
            b.tensors.append(synth_builder.gguf_file.Tensor.f32(f"{p}ffn_{name}_exps.bias", [rows, count],
                                                                b.normal(rows * count, 0.3)))
    return b.file()


def llama4_maverick():
    """Every second layer dense, 128 experts (which means no norm of queries and keys)."""
    b = Builder("llama4", 135)
    width, ff, count = 64, 32, 128
    start(b, 4, width, 4, 2, 96, base=500000.0)
    b.keys(expert_count=count, expert_used_count=1, expert_feed_forward_length=ff, interleave_moe_layer_step=2)
    for i in range(4):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        attention(b, p, width, 4, 2)
        b.norm(p + "ffn_norm", width)
        if i % 2:
            experts(b, p, width, ff, count)
            swiglu(b, p, width, ff, "_shexp")
        else:
            swiglu(b, p, width, 96)
    return b.file()


def command_r(qk_norm):
    """Command-R+ is told by its 64 layers."""
    layers = 64 if qk_norm else 3
    b = Builder("command-r", 140 + qk_norm)
    width, heads, kv, gain = 64, 2, 1, 2.0 / layers ** 0.5
    start(b, layers, width, heads, kv, 96, eps="layer", tied=True)
    b.keys(logit_scale=0.8)
    for i in range(layers):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        attention(b, p, width, heads, kv, gain=gain)
        if qk_norm:
            b.norm(p + "attn_q_norm", 32, heads)
            b.norm(p + "attn_k_norm", 32, kv)
        swiglu(b, p, width, 96, gain=gain)
    return b.file()


def gemma3(layers):
    """62 layers have a scale of their own (27B). They are made to add little: llama.cpp rounds GELU to half precision, and
    where a last bit decides which way, the difference grows from layer to layer."""
    b = Builder("gemma3", 142 if layers == 7 else 152)
    width, heads, kv, ff = 96, 4, 2, 160
    start(b, layers, width, heads, kv, ff, base=1e6)
    b.keys(attention__sliding_window=24, rope__scaling__type="linear", rope__scaling__factor=8.0)
    if layers == 7:
        b.keys(final_logit_softcapping=5.0)
    for i in range(layers):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        attention(b, p, width, heads, kv, qk_norm=True)
        b.norm(p + "post_attention_norm", width, mean=1.0 if layers == 7 else 0.5)
        b.norm(p + "ffn_norm", width)
        swiglu(b, p, width, ff)
        b.norm(p + "post_ffw_norm", width, mean=1.0 if layers == 7 else 0.1)
    return b.file()


def falcon_7b():
    """One norm per block, one KV head."""
    b = Builder("falcon", 143)
    width, heads, ff = 96, 3, 384
    start(b, 3, width, heads, 1, ff, eps="layer")
    b.vector("output_norm.bias", width, 0.3)
    for i in range(3):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        b.vector(p + "attn_norm.bias", width, 0.3)
        b.matrix(p + "attn_qkv", width, (heads + 2) * 32)
        b.matrix(p + "attn_output", heads * 32, width)
        b.matrix(p + "ffn_up", width, ff)
        b.matrix(p + "ffn_down", ff, width, gain=2.0)
    return b.file()


def mistral3(moe):
    b = Builder("mistral3", 144 + moe)
    width, heads, kv, ff, count = 96, 4, 2, 160, 6
    start(b, 3, width, heads, kv, ff, base=1e6)
    b.keys(rope__scaling__type="yarn", rope__scaling__factor=16.0, rope__scaling__original_context_length=32,
           rope__scaling__yarn_log_multiplier=0.7, attention__temperature_scale=0.4)
    if moe:
        b.keys(expert_count=count, expert_used_count=2)
    for i in range(3):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        attention(b, p, width, heads, kv)
        b.norm(p + "ffn_norm", width)
        if moe:
            experts(b, p, width, ff, count)
        else:
            swiglu(b, p, width, ff)
    return b.file()


def llama_biases():
    b = Builder("llama", 148)
    width, heads, kv, ff = 96, 4, 2, 160
    start(b, 3, width, heads, kv, ff)
    b.keys(rope__scaling__type="linear", rope__scaling__factor=4.0)
    for i in range(3):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        attention(b, p, width, heads, kv, bias=True)
        b.vector(p + "attn_output.bias", width, 0.3)
        b.norm(p + "ffn_norm", width)
        swiglu(b, p, width, ff)
        for name, rows in (("gate", ff), ("up", ff), ("down", width)):
            b.vector(f"{p}ffn_{name}.bias", rows, 0.3)
    return b.file()


def qwen2_yarn():
    b = Builder("qwen2", 149)
    width, heads, kv, ff = 160, 5, 1, 160
    start(b, 3, width, heads, kv, ff, base=1e6)
    b.keys(rope__scaling__type="yarn", rope__scaling__factor=4.0, rope__scaling__original_context_length=64,
           rope__scaling__attn_factor=1.1)
    for i in range(3):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        attention(b, p, width, heads, kv, bias=True)
        b.norm(p + "ffn_norm", width)
        swiglu(b, p, width, ff)
    return b.file()


def llama_fused_qkv():
    b = Builder("llama", 146)
    width, heads, kv = 96, 3, 1
    start(b, 3, width, heads, kv, 160)
    b.vector("rope_freqs.weight", 16, 0.5, 2.0)
    for i in range(3):
        p = f"blk.{i}."
        b.norm(p + "attn_norm", width)
        b.linear(p + "attn_qkv", width, (heads + 2 * kv) * 32)
        b.matrix(p + "attn_output", heads * 32, width)
        b.norm(p + "ffn_norm", width)
        swiglu(b, p, width, 160)
    return b.file()


MODELS = {
    "phi3": phi3,
    "phi3-longrope": lambda: phi3(True),
    "phi3-mini4": lambda: phi3(True, True),
    "glm4moe": lambda: glm4moe(False),
    "glm4moe-qk-norm": lambda: glm4moe(True),
    "glm4moe-sections": lambda: glm4moe(False, sections=[2, 3, 3, 0]),
    "deepseek2-lite-legacy": deepseek2_lite_legacy,
    "deepseek2-lite": deepseek2_lite,
    "deepseek2-legacy": deepseek2_legacy,
    "deepseek3": deepseek3,
    "deepseek3-legacy": deepseek3_legacy,
    "deepseek3-softmax-selected": lambda: deepseek3_variant(161, expert_gating_func=3),
    "deepseek3-sqrt-softplus": lambda: deepseek3_variant(162, expert_gating_func=4),
    "deepseek3-temperature": lambda: deepseek3_variant(163, temperature=True),
    "deepseek3-fused": lambda: deepseek3_variant(164, fused=True),
    "glm-flash": lambda: glm_flash(0),
    "glm-flash-mtp": lambda: glm_flash(1),
    "mixtral": mixtral,
    "qwen3moe": qwen3moe,
    "qwen2moe": qwen2moe,
    "gpt-oss": lambda: gpt_oss(False),
    "gpt-oss-mxfp4": lambda: gpt_oss(True),
    "llama4-maverick": llama4_maverick,
    "command-r": lambda: command_r(False),
    "command-r-plus": lambda: command_r(True),
    "gemma3": lambda: gemma3(7),
    "gemma3-27b": lambda: gemma3(62),
    "falcon-7b": falcon_7b,
    "mistral3": lambda: mistral3(False),
    "mistral3-moe": lambda: mistral3(True),
    "llama-fused-qkv": llama_fused_qkv,
    "llama-biases": llama_biases,
    "qwen2-yarn": qwen2_yarn,
}


def generate(name, folder):
    """Paths of the model `name` and of its twin without quantised tensors (the same file if it has none), made once per
    version of the generator and tokenizer."""
    here = pathlib.Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for source in ("synth_arch.py", "synth_builder.py", "gguf_file.py"):
        digest.update((here / source).read_bytes())
    digest.update(synth_builder.TOKENIZER_SOURCE.read_bytes())
    folder = pathlib.Path(folder)
    path = folder / f"{name}-{digest.hexdigest()[:16]}.gguf"
    twin = path.with_suffix(".f32.gguf")
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{name}-" + "[0-9a-f]" * 16 + "*.gguf"):
            old.unlink()
        model = MODELS[name]()
        if any(tensor.kind != synth_builder.gguf_file.TENSOR_F32 for tensor in model.tensors):
            synth_builder.dequantised(model).write(twin)
        model.write(path.with_suffix(".new"))
        path.with_suffix(".new").rename(path)
    return str(path), str(twin if twin.exists() else path)
