"""Compares Shoal's template language with Jinja2 as chat templates expect it: templates at random, real templates over many
conversations, and Unicode's tables over all code points. Equal text, or both refuse.

  test_jinja2.py TEMPLATE_TOOL [--templates N] [--seed S] [--thorough] [--show K] [--only WHAT]
"""
import argparse
import datetime
import functools
import json
import os
import random
import re
import signal
import subprocess
import sys

try:
    import jinja2
except ImportError:
    debian = "/usr/bin/python3"  # another Python may be first in PATH
    if sys.executable != debian and os.path.exists(debian) and not os.environ.get("SHOAL_JINJA_RETRY"):
        os.environ["SHOAL_JINJA_RETRY"] = "1"
        os.execv(debian, [debian] + sys.argv)
    print("SKIP: python3-jinja2 is not installed")
    sys.exit(77)

import jinja2.ext
import jinja2.sandbox

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import conversations
import generator

NOW = datetime.datetime(2025, 1, 15, 12, 30, 5)


class Generation(jinja2.ext.Extension):
    """{% generation %}: a block that is a function of its own, as a call block is."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


class TooLong(Exception):
    pass


def alarm(*_):
    raise TooLong


@functools.lru_cache(maxsize=64)
def compiled(env, source):
    return env.from_string(source)


def with_jinja2(env, source, context):
    signal.signal(signal.SIGALRM, alarm)
    signal.alarm(10)
    try:
        return {"text": compiled(env, source).render(**context)}
    except TooLong:
        return {"skip": "takes long"}
    except RecursionError:
        return {"skip": "recursion"}
    except Exception as error:
        return {"error": "%s: %s" % (type(error).__name__, error)}
    finally:
        signal.alarm(0)


class Tool:
    def __init__(self, path):
        self.process = subprocess.Popen([path, str(int(NOW.timestamp()))], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, source, context):
        self.process.stdin.write(json.dumps({"template": source, "context": context}).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("template_tool ended (%s) at\n%r" % (self.process.wait(), source))
        return json.loads(line)


# What differs on purpose (docs/chat-templates.md, "Differences"): each says what it matches in Jinja2's and our outcome.
INTENDED = [
    ("functions and generators have no text", lambda j, o: "has no text" in o.get("error", "")),
    ("slices of constants that have none", lambda j, o: "cannot be sliced" in o.get("error", "") or "a slice needs" in o.get("error", "")),
    ("Jinja2 before 3.1.5", lambda j, o: jinja2.__version__ < "3.1.5" and "OverflowError: cannot convert float inf" in j.get("error", "")),
    ("integers beyond 64 bits", lambda j, o: "beyond 64 bits" in o.get("error", "")),
    ("complex numbers", lambda j, o: "complex number" in o.get("error", "") or re.search(r"\dj\)", j.get("text", "")) is not None),
    ("a limit of the server", lambda j, o: "is too wide" in o.get("error", "") or "nested too deeply" in o.get("error", "")),
    ("lone surrogates", lambda j, o: "surrogate" in o.get("error", "")),
]


def verdict(jinja, ours):
    """None: the same. Else why not, or the name of an intended difference."""
    if "skip" in jinja:
        return "intended: " + jinja["skip"]
    if "text" in jinja and jinja["text"] == ours.get("text"):
        return None
    if "error" in jinja and "error" in ours:
        return None
    for name, matches in INTENDED:
        if matches(jinja, ours):
            return "intended: " + name
    return "differs"


class Tally:
    def __init__(self, show):
        self.same = self.errors = self.differ = 0
        self.intended = {}
        self.show = show

    def add(self, what, source, jinja, ours):
        outcome = verdict(jinja, ours)
        if outcome is None:
            self.same += 1
            self.errors += "error" in jinja
        elif outcome.startswith("intended: "):
            self.intended[outcome[10:]] = self.intended.get(outcome[10:], 0) + 1
        else:
            self.differ += 1
            if self.differ <= self.show:
                print("DIFFERS (%s)\n  template: %r\n  Jinja2:   %r\n  Shoal:    %r" % (what, source[:1500], short(jinja), short(ours)))


def short(outcome):
    return outcome.get("text", "error: " + outcome.get("error", ""))[:1500]


def random_templates(env, tool, count, seed, tally):
    for i in range(count):
        rng = random.Random("%s/%d" % (seed, i))
        source = generator.make(rng)
        tally.add("seed %s/%d" % (seed, i), source, with_jinja2(env, source, generator.CONTEXT), tool.render(source, generator.CONTEXT))


def expressions(env, tool, count, seed, tally):
    for i in range(count):
        rng = random.Random("%s/e/%d" % (seed, i))
        source = "{{ %s }}" % generator.Generator(rng).expr("a", 3)
        tally.add("expression %s/%d" % (seed, i), source, with_jinja2(env, source, generator.CONTEXT), tool.render(source, generator.CONTEXT))


def real_templates(env, tool, thorough, tally):
    shared = os.environ.get("SHOAL_SHARED", os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../shared"))
    folder = os.path.join(shared, "templates")
    if not os.path.isdir(folder):
        print("SKIP: no real templates in %s" % folder)
        return
    names = sorted(n for n in os.listdir(folder) if n.endswith(".jinja"))
    for name in names:
        source = open(os.path.join(folder, name), newline="").read()
        for case, context in conversations.contexts():
            for ends in ("\n", "\r\n", "\r") if thorough or case.startswith(("tool ", "crlf", "thinking ")) else ("\n",):
                text = source.replace("\n", ends)
                tally.add("%s, %s, %r" % (name, case, ends), name, with_jinja2(env, text, context), tool.render(text, context))


def unicode_tables(env, tool, thorough, tally):
    """Every code point through every operation that looks at Unicode's tables."""
    block = 2048
    parts = ["upper", "lower", "title", "capitalize", "swapcase", "casefold"]
    tests = ["isalpha", "isdigit", "isdecimal", "isnumeric", "isalnum", "isspace", "islower", "isupper", "istitle", "isidentifier", "isprintable"]
    source = ("{% for c in cs %}" + "".join("{{ c.%s() }}|{{ ('A' ~ c ~ 'a.').%s() }}|" % (p, p) for p in parts) + "".join("{{ 1 if c.%s() }}|" % p for p in tests)
              + "{{ ('a' ~ c).isidentifier() }}{{ [c] }}{{ ('a' ~ c ~ 'b').split() }}{{ ('a' ~ c ~ 'b').splitlines() }}{{ (c ~ 'b' ~ c).strip() }}{{ c|int(-1) }}"
              "{{ ('a' ~ c ~ 'b')|wordcount }}{{ ('x' ~ c ~ 'Σ' ~ c).lower() }}\n{% endfor %}")
    for first in range(0, 0x110000, block):
        # From U+20000 on there are ideographs and nothing: a few of them unless all are wanted.
        chars = [chr(c) for c in range(first, first + block) if not 0xd800 <= c < 0xe000 and (thorough or c < 0x20000 or c % 97 == 0)]
        if chars:
            context = {"cs": chars}
            tally.add("code points from U+%04X" % first, source, with_jinja2(env, source, context), tool.render(source, context))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("--templates", type=int, default=1500)
    parser.add_argument("--thorough", action="store_true", help="all code points, all line ends")
    parser.add_argument("--seed", default=os.environ.get("SHOAL_TEST_SEED", "1"))
    parser.add_argument("--show", type=int, default=10)
    parser.add_argument("--only", choices=["random", "expressions", "real", "unicode"])
    args = parser.parse_args()
    env, tool = environment(), Tool(args.tool)
    tally = Tally(args.show)
    print("Jinja2 %s, Python %s, seed %s" % (jinja2.__version__, sys.version.split()[0], args.seed))
    parts = {
        "random": lambda: random_templates(env, tool, args.templates, args.seed, tally),
        "expressions": lambda: expressions(env, tool, args.templates, args.seed, tally),
        "real": lambda: real_templates(env, tool, args.thorough, tally),
        "unicode": lambda: unicode_tables(env, tool, args.thorough, tally),
    }
    failed = False
    for name, run in parts.items():
        if args.only not in (None, name):
            continue
        before = (tally.same, tally.errors, tally.differ)
        run()
        print("%s: %d the same (%d of them refused by both), %d differ" % (name, tally.same - before[0], tally.errors - before[1], tally.differ - before[2]))
        failed |= tally.differ > before[2]
    print("intended differences: %s" % (tally.intended or "none"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
