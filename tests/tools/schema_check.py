#!/usr/bin/env python3
"""Strict shapes of every answer of Shoal's HTTP API: exact field sets and types, nothing more, nothing less.

Real clients are loose and hide missing fields; this is not. As a module: check("chat", value) raises
SchemaError naming the place. As a program: schema_check.py KIND < answer.json, or
schema_check.py stream chat < events.txt for the body of a stream.
"""
import json
import sys


class SchemaError(AssertionError):
    pass


def fail(where, what):
    raise SchemaError(f"{where or 'answer'}: {what}")


# ---------------------------------------------------------------- building blocks: functions (value, where)

def text(value, where):
    if not isinstance(value, str):
        fail(where, f"should be a string, is {value!r}")


def integer(value, where):
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        fail(where, f"should be an integer ≥ 0, is {value!r}")


def boolean(value, where):
    if not isinstance(value, bool):
        fail(where, f"should be true or false, is {value!r}")


def number(value, where):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        fail(where, f"should be a number, is {value!r}")


def logprob(value, where):
    number(value, where)
    if value > 1e-3:  # rounding may put a certain token a little above 0
        fail(where, f"a log-probability above 0: {value!r}")


def null(value, where):
    if value is not None:
        fail(where, f"should be null, is {value!r}")


def const(*allowed):
    def run(value, where):
        if value not in allowed or isinstance(value, bool):
            fail(where, f"should be one of {allowed}, is {value!r}")
    return run


def nullable(inner):
    return lambda value, where: None if value is None else inner(value, where)


def array(inner, least=0):
    def run(value, where):
        if not isinstance(value, list):
            fail(where, f"should be an array, is {value!r}")
        if len(value) < least:
            fail(where, f"should hold at least {least}, holds {len(value)}")
        for i, element in enumerate(value):
            inner(element, f"{where}[{i}]")
    return run


def prefixed(prefix):
    def run(value, where):
        text(value, where)
        if not value.startswith(prefix) or len(value) <= len(prefix):
            fail(where, f"should start with {prefix!r}, is {value!r}")
    return run


def mapping(inner):
    def run(value, where):
        if not isinstance(value, dict):
            fail(where, f"should be an object, is {value!r}")
        for key, element in value.items():
            inner(element, f"{where}[{key!r}]")
    return run


class Optional:
    """A field that may be absent."""

    def __init__(self, inner):
        self.inner = inner


def record(fields):
    def run(value, where):
        if not isinstance(value, dict):
            fail(where, f"should be an object, is {value!r}")
        for name in value:
            if name not in fields:
                fail(where, f"has an unknown field {name!r}")
        for name, inner in fields.items():
            place = f"{where}.{name}" if where else name
            optional = isinstance(inner, Optional)
            if name in value:
                (inner.inner if optional else inner)(value[name], place)
            elif not optional:
                fail(place, "is missing")
    return run


# ---------------------------------------------------------------- the shapes

def byte(value, where):
    integer(value, where)
    if value > 255:
        fail(where, f"should be a byte, is {value!r}")


TOKEN = {"token": text, "id": integer, "logprob": logprob, "bytes": array(byte)}
LOGPROB_CONTENT = array(record({**TOKEN, "top_logprobs": array(record(TOKEN))}))
# An echoed prompt's first token has no log-probability.
TEXT_LOGPROB_CONTENT = array(record({**TOKEN, "logprob": nullable(logprob), "top_logprobs": array(record(TOKEN))}))
CHAT_LOGPROBS = record({"content": LOGPROB_CONTENT, "refusal": null})


def completion_logprobs(value, where):
    record({
        "tokens": array(text), "token_logprobs": array(nullable(logprob)),
        "top_logprobs": array(nullable(mapping(logprob))), "text_offset": array(integer),
        "content": TEXT_LOGPROB_CONTENT,
    })(value, where)
    lengths = {name: len(value[name]) for name in value}
    if len(set(lengths.values())) > 1:
        fail(where, f"its arrays differ in length: {lengths}")


USAGE = record({
    "prompt_tokens": integer, "completion_tokens": integer, "total_tokens": integer,
    "prompt_tokens_details": record({"cached_tokens": integer}),
})


def usage(value, where):
    USAGE(value, where)
    if value["total_tokens"] != value["prompt_tokens"] + value["completion_tokens"]:
        fail(where, f"total_tokens is not the sum: {value}")
    if value["prompt_tokens_details"]["cached_tokens"] > value["prompt_tokens"]:
        fail(where, f"more tokens cached than there were: {value}")


REASON = const("stop", "length")
TOKEN_IDS = Optional(array(integer))


def head(prefix, kind):
    return {"id": prefixed(prefix), "object": const(kind), "created": integer, "model": text,
            "system_fingerprint": text}


def indexed(choices_of):
    """Whole answers list their choices in order."""
    def run(value, where):
        choices_of(value, where)
        for i, choice in enumerate(value):
            if choice["index"] != i:
                fail(f"{where}[{i}].index", f"should be {i}, is {choice['index']}")
    return run


CHAT = record({
    **head("chatcmpl-", "chat.completion"),
    "choices": indexed(array(record({
        "index": integer,
        "message": record({"role": const("assistant"), "content": text, "refusal": null}),
        "logprobs": nullable(CHAT_LOGPROBS), "finish_reason": REASON, "token_ids": TOKEN_IDS,
    }), least=1)),
    "usage": usage,
})

COMPLETION = record({
    **head("cmpl-", "text_completion"),
    "choices": indexed(array(record({
        "index": integer, "text": text, "logprobs": nullable(completion_logprobs),
        "finish_reason": REASON, "token_ids": TOKEN_IDS,
    }), least=1)),
    "usage": usage,
})


def delta(value, where):
    record({"role": Optional(const("assistant")), "content": Optional(text), "refusal": Optional(null)})(value, where)
    if ("role" in value) != ("refusal" in value):
        fail(where, "role and refusal come together, in the first chunk")


def chunk(prefix, kind, choice):
    shape = record({**head(prefix, kind), "choices": array(record({"index": integer, **choice})),
                    "usage": Optional(nullable(usage))})

    def run(value, where):
        shape(value, where)
        if not value["choices"] and value.get("usage") is None:
            fail(where, "a chunk without choices must carry the usage")
    return run


CHAT_CHUNK = chunk("chatcmpl-", "chat.completion.chunk", {
    "delta": delta, "logprobs": nullable(CHAT_LOGPROBS), "finish_reason": nullable(REASON),
    "token_ids": TOKEN_IDS})
COMPLETION_CHUNK = chunk("cmpl-", "text_completion", {
    "text": text, "logprobs": nullable(completion_logprobs), "finish_reason": nullable(REASON),
    "token_ids": TOKEN_IDS})

MODEL = record({"id": text, "object": const("model"), "created": integer, "owned_by": text,
                "max_model_len": integer})
MODELS = record({"object": const("list"), "data": array(MODEL, least=1)})
ERROR = record({"error": record({"message": text, "type": text, "param": nullable(text),
                                 "code": nullable(text)})})
TOKENIZE = record({"tokens": array(integer), "count": integer, "max_model_len": integer})
DETOKENIZE = record({"content": text})
CLUSTER = record({
    "model": text, "ready": boolean, "draining": boolean, "not_ready_reason": text,
    "seconds_since_loop": number, "epoch": integer, "running": integer, "waiting": integer,
    "kv_blocks_total": integer, "kv_blocks_used": integer, "kv_usage": number, "kv_blocks_cached": integer,
    "context_tokens": integer,
    "workers": array(record({
        "name": text, "host": text, "device": text, "state": const("connected", "loading", "ready", "lost"),
        "rank": number, "pid": integer, "seconds_since_heard": number, "load_bytes_done": integer,
        "load_bytes_total": integer, "weight_bytes": integer, "kv_bytes": integer,
    })),
})

KINDS = {
    "chat": CHAT, "chat_chunk": CHAT_CHUNK, "completion": COMPLETION, "completion_chunk": COMPLETION_CHUNK,
    "models": MODELS, "model": MODEL, "error": ERROR, "tokenize": TOKENIZE, "detokenize": DETOKENIZE,
    "cluster": CLUSTER,
}


def check(kind, value):
    KINDS[kind](value, "")


def events_of(body):
    """The data of each event of a stream's body; framing must be exact."""
    if isinstance(body, bytes):
        body = body.decode("utf-8")
    out = []
    for event in body.split("\n\n")[:-1]:
        if event.startswith(":") and "\n" not in event:
            continue  # a comment that keeps proxies awake
        if not event.startswith("data: ") or "\n" in event:
            fail("stream", f"malformed event {event!r}")
        out.append(event[6:])
    if body and not body.endswith("\n\n"):
        fail("stream", "ends in the middle of an event")
    return out


def check_stream(kind, body, choices=1, include_usage=False):
    """A whole, successful stream of kind "chat" or "completion". Returns [(text, finish_reason)] by choice."""
    events = events_of(body)
    if not events or events[-1] != "[DONE]":
        fail("stream", "does not end with [DONE]")
    chunks = [json.loads(event) for event in events[:-1]]
    texts, reasons, started = [""] * choices, [None] * choices, [False] * choices
    for i, value in enumerate(chunks):
        where = f"chunk {i}"
        KINDS[kind + "_chunk"](value, where)
        if value["id"] != chunks[0]["id"]:
            fail(f"{where}.id", "differs from the first chunk's")
        last = i == len(chunks) - 1
        if include_usage:
            if "usage" not in value or (value["usage"] is not None) != last or bool(value["choices"]) == last:
                fail(where, "usage must be null everywhere but in a last chunk without choices")
        elif "usage" in value:
            fail(where, "mentions usage, which was not asked for")
        for choice in value["choices"]:
            index = choice["index"]
            if index >= choices:
                fail(where, f"index {index} of {choices} choices")
            if reasons[index] is not None:
                fail(where, f"choice {index} goes on after its finish_reason")
            if kind == "chat":
                if ("role" in choice["delta"]) == started[index]:
                    fail(where, "exactly the first chunk of a choice carries the role")
                started[index] = True
            texts[index] += choice["delta"].get("content", "") if kind == "chat" else choice["text"]
            reasons[index] = choice["finish_reason"]
    for index, reason in enumerate(reasons):
        if reason is None:
            fail("stream", f"choice {index} has no finish_reason")
    return list(zip(texts, reasons))


def main():
    if len(sys.argv) >= 3 and sys.argv[1] == "stream":
        check_stream(sys.argv[2], sys.stdin.buffer.read())
    elif len(sys.argv) == 2 and sys.argv[1] in KINDS:
        check(sys.argv[1], json.load(sys.stdin))
    else:
        sys.exit(f"usage: schema_check.py {'|'.join(KINDS)} | stream chat|completion   < answer")


if __name__ == "__main__":
    try:
        main()
    except SchemaError as error:
        sys.exit(f"schema: {error}")
