"""Conversations for comparisons of whole chat templates, and what else a template is given."""
import copy

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Weather in a \"city\" <now>\r\n", "parameters": {"type": "object", "properties": {
    "city": {"type": "string", "description": "the city’s name", "enum": ["Köln", "東京"]}, "days": {"type": "integer", "default": 1}, "opts": {"type": ["object",
    "null"], "properties": {"units": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}}, "required": ["city"]}}}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "", "parameters": {"type": "object", "properties": {}}}}
LISTS = {"type": "function", "function": {"name": "total", "description": "Adds numbers", "parameters": {"type": "object", "properties": {"xs": {"type": "array",
    "items": {"type": "number"}, "description": "numbers"}}, "required": ["xs"]}}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def call(name, arguments, number=1):
    return {"id": "call%05d" % number, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(text, number=1, **more):
    return {"role": "tool", "content": text, "tool_call_id": "call%05d" % number, **more}


def conversations():
    ask = user("What is the weather in Köln?")
    asked = assistant(None, tool_calls=[call("get_weather", {"city": "Köln", "days": 2})])
    thought = "<think>\nfirst\n</think>\n\nanswer"
    return {
        "one": [user("Hello")], "system": [system("Be brief."), user("Hi")], "developer": [{"role": "developer", "content": "Obey."}, user("Hi")],
        "turns": [user("a"), assistant("b"), user("c"), assistant("d"), user("e")], "empty": [user("")], "none": [], "blanks": [system("\u3000 s \u2003\n"),
        user("\xa0東京\u3000"), assistant("\t\x1fx\x85"), user(" end ")], "crlf": [system("a\r\nb\r"), user("x\r\ny"), assistant("\r\n"), user("z\r")],
        "thinking": [user("q"), assistant(thought), user("again")], "reasoning": [user("q"), assistant("a", reasoning_content="\nwhy\n"), user("r")],
        "thinking last": [user("q"), assistant(thought)], "null": [user("q"), assistant(None), user("r")], "ends with assistant": [user("q"), assistant("partial")],
        "tool": [ask, asked, result("{\"deg\": 21}")], "tool answered": [ask, asked, result("21°"), assistant("21 degrees."), user("Thanks")],
        "tool name": [ask, asked, result("21", name="get_weather"), user("So?")], "two tools": [ask, assistant("", tool_calls=[call("get_weather", {"city": "東京"}),
        call("clock", {}, 2)]), result("5", 1), result("12:00", 2), assistant("ok"), user("more")], "tool text": [ask, assistant("I look.", tool_calls=[call("total",
        {"xs": [1, 2.5, -0.0, 1e22], "deep": {"a": [None, True, "q\"\\ü<&>'"]}})]), result("3.5")], "string arguments": [ask, assistant(None, tool_calls=[call(
        "get_weather", "{\"city\": \"Köln\"}")]), result("1")], "tool only": [ask, result("1"), user("next")], "ids that end": [user("end"), asked, result("42")],
        "tool thinking": [ask, assistant("c", reasoning_content="r", tool_calls=[call("clock", {})]), result("1"), assistant("done", reasoning_content="r2")],
        "parts": [user([{"type": "text", "text": "part one"}, {"type": "text", "text": "\npart two"}]), assistant("ok"), user("x")], "image": [user([{"type":
        "image"}, {"type": "text", "text": "what is this?"}])], "two users": [user("a"), user("b")], "starts with assistant": [assistant("hi"), user("b")], "late system":
        [user("a"), assistant("b"), system("now"), user("c")], "two systems": [system("one"), system("two"), user("c")], "unknown role": [{"role": "critic", "content":
        "x"}, user("y")], "ipython": [ask, asked, {"role": "ipython", "content": "{\"a\": 1}"}], "no content": [{"role": "user"}, user("x")],
        "names": [{"role": "user", "name": "Zoë", "content": "hi"}], "long": [m for i in range(12) for m in (user("q%d" % i), assistant("a%d\n" % i))] + [user("end")],
    }


def contexts():
    """(name, context) pairs."""
    tools = [WEATHER, CLOCK, LISTS]
    for name, messages in conversations().items():
        with_tools = "tool" in name or name in ("string arguments", "ids that end", "system")
        for tag, more in ((" ", {}), (" bare", {"add_generation_prompt": False}), (" off", {"enable_thinking": False, "thinking": True, "reasoning_effort": "high"})):
            if tag != " " and not with_tools and name not in ("turns", "thinking", "reasoning"):
                continue
            context = {"messages": copy.deepcopy(messages), "add_generation_prompt": True, "bos_token": "<BOS>", "eos_token": "<EOS>", "tools": None,
                       "documents": None}
            if with_tools:
                context["tools"] = tools if tag != " bare" else [CLOCK]
            context.update(more)
            yield name + tag, context
