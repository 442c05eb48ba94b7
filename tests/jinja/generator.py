"""Templates at random: every statement, operator, filter, test, function and method of the language, mostly with
operands of the types they are for. The same seed gives the same templates."""

STRINGS = [
    "", "a", "ab", "Hello World", "  padded\t", "a-b-c", "x,y,,z", "line1\nline2\n\nline4", "crlf\r\nend\r", "Hällo Wörld",
    "straße ǆungla ﬁn", "ΟΔΥΣΣΕΥΣ ΣΑΣ Σ", "İstanbul ıI", "\u3000東京\u2003", "\xa0x\x85y\u2028z", "\x1ca\x1fb\x0bc\x0c", "😀 smile😀",
    "e\u0301te\u0301", "it's \"q\"", "back\\slash", "<b class='x'>&amp; y</b>", "%s and %d", "{} {0} {x}", "12", "-7", "3.5", " 42 ",
    "0x1f", "1_000", "1e3", "inf", "٣٤", "²", "½", "Ⅷ", "一二三", "tab\tstop\tend", "a.b", "role", "UPPER lower Title", "\u200b\xad\x00\x07",
    "word " * 9, "x" * 90, "https://e.org/?q=a b&c=ü", "ŉǰΐ", "ﬃ", "Ǆ ǅ ǆ", "a'b-c d_e (f) [g] {h} <i",
]

CONTEXT = {
    "s": "Hällo wörld", "t": "a-b-c", "e": "", "u": "\u3000Ünï\u2003", "m": "one\ntwo\r\nthree", "q": "it's \"so\"", "n": 5, "z": 0, "neg": -7,
    "big": 123456789012, "f": 2.5, "g": -0.125, "h": 1e16, "yes": True, "no": False, "nothing": None,
    "xs": [3, 1, 2], "ws": ["b", "A", "c", "B", "ä"], "mixed": [1, "a", None, 2.5, True, [1], {"k": 1}], "empty": [], "fs": [0.5, 2, -1.25],
    "nested": [[1, 2], [3, 4], [5]], "d": {"b": 1, "a": [1, 2], "C": "x"}, "ed": {}, "dd": {"items": 1, "get": 2, "x": {"y": {"z": [7, 8]}}},
    "rows": [{"k": "x", "v": 2, "w": {"u": 1}}, {"k": "Y", "v": 1}, {"k": "x", "v": 3, "w": {"u": None}}, {"v": 1, "k": "y"}],
    "tree": [{"n": 1, "c": [{"n": 2, "c": []}, {"n": 3, "c": [{"n": 4, "c": []}]}]}, {"n": 5, "c": []}],
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " hi \n"}, {"role": "assistant", "content": None,
                 "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1, "ß": "<x>"}}}]}, {"role": "tool", "content": "42"}],
}
BY_TYPE = {
    "str": ["s", "t", "e", "u", "m", "q"], "int": ["n", "z", "neg", "big"], "float": ["f", "g", "h"], "bool": ["yes", "no"],
    "list": ["xs", "ws", "mixed", "empty", "nested", "rows", "fs", "messages", "tree"], "dict": ["d", "ed", "dd", "rows[0]", "messages[1]"],
    "none": ["nothing"], "undefined": ["missing"],
}
TYPES = list(BY_TYPE)
STRING_METHODS = {
    "upper": 0, "lower": 0, "title": 0, "capitalize": 0, "swapcase": 0, "casefold": 0, "isalpha": 0, "isdigit": 0, "isnumeric": 0, "isdecimal": 0,
    "isalnum": 0, "isspace": 0, "islower": 0, "isupper": 0, "istitle": 0, "isidentifier": 0, "isprintable": 0, "isascii": 0,
    "strip": "S", "lstrip": "S", "rstrip": "S", "split": "SI", "rsplit": "SI", "splitlines": "B", "partition": "s", "rpartition": "s",
    "find": "sII", "rfind": "sII", "index": "sII", "rindex": "sII", "count": "sII", "startswith": "sII", "endswith": "sII", "replace": "ssI",
    "center": "wc", "ljust": "wc", "rjust": "wc", "zfill": "w", "expandtabs": "W", "removeprefix": "s", "removesuffix": "s", "join": "l",
}
FILTERS = {
    "abs": ("n", "",), "attr": ("a", "s"), "batch": ("l", "wA"), "capitalize": ("s", ""), "center": ("s", "W"), "count": ("a", ""), "length": ("l", ""),
    "d": ("a", "AB"), "default": ("a", "AB"), "dictsort": ("m", "B"), "e": ("s", ""), "escape": ("a", ""), "filesizeformat": ("n", "B"),
    "first": ("l", ""), "last": ("l", ""), "float": ("a", "N"), "forceescape": ("a", ""), "format": ("F", "AA"), "groupby": ("R", "k"),
    "indent": ("s", "WBB"), "int": ("a", "I"), "items": ("m", ""), "join": ("l", "S"), "list": ("l", ""), "lower": ("a", ""), "map": ("l", "M"),
    "max": ("l", ""), "min": ("l", ""), "pprint": ("a", ""), "reject": ("l", "T"), "rejectattr": ("R", "kT"), "replace": ("a", "ssI"),
    "reverse": ("l", ""), "round": ("n", "r"), "safe": ("s", ""), "select": ("l", "T"), "selectattr": ("R", "kT"), "slice": ("l", "w"),
    "sort": ("l", "BB"), "string": ("a", ""), "striptags": ("s", ""), "sum": ("l", ""), "title": ("a", ""), "trim": ("a", "S"),
    "truncate": ("s", "WBSI"), "unique": ("l", "B"), "upper": ("a", ""), "urlencode": ("a", ""), "wordcount": ("a", ""), "wordwrap": ("s", "W"),
    "xmlattr": ("m", "B"), "tojson": ("a", ""),
}
KEYWORDS = {
    "sort": ["reverse=true", "case_sensitive=true", "attribute='v'", "attribute='k,v'", "attribute='v,k',reverse=true"], "unique": ["attribute='k'",
    "case_sensitive=true"], "min": ["attribute='v'", "case_sensitive=true"], "max": ["attribute='v'"], "sum": ["attribute='v'", "start=2", "start=[]",
    "start=1.5"], "join": ["attribute='k'", "d='; '"], "groupby": ["'k', default='q'", "'k', case_sensitive=true", "'w.u', default=0"],
    "dictsort": ["by='value'", "reverse=true", "case_sensitive=true"], "tojson": ["indent=2", "indent=0", "ensure_ascii=true", "sort_keys=true",
    "separators=(',', ':')", "indent=4, separators=(',', ': ')", "true", "indent='  '"], "int": ["base=16", "default=7", "0, 2"], "indent": ["first=true",
    "blank=true", "'>>'", "width=2"], "truncate": ["10", "10, true", "9, false, '…', 0", "length=6, end=''", "5, leeway=1"], "wordwrap": ["5", "7, false",
    "width=6, wrapstring='|'", "6, break_on_hyphens=false"], "batch": ["2, 'x'", "3", "linecount=2, fill_with=none"], "slice": ["2, 'x'", "3"],
    "round": ["1", "2, 'floor'", "method='ceil'", "-1", "precision=1"], "map": ["attribute='k'", "attribute='w.u', default='q'", "attribute=0",
    "attribute='v'", "'upper'", "'default', 'x'", "'int', 3", "'join', '-'", "'replace', 'a', 'b'", "'round', 1, method='floor'"],
    "map ": [], "filesizeformat": ["true"], "default": ["'x', true", "default_value=3", "boolean=true"], "center": ["9", "width=6"],
    "xmlattr": ["autospace=false"], "replace": ["'a', 'b', count=1", "'', '-'", "'l', ''"], "format": ["1, 2", "x=1"], "trim": ["'ab'", "none"],
}
TESTS = {
    "boolean": "", "callable": "", "defined": "", "divisibleby": "i", "eq": "A", "equalto": "A", "escaped": "", "even": "", "false": "", "filter": "",
    "float": "", "ge": "A", "gt": "A", "in": "l", "integer": "", "iterable": "", "le": "A", "lower": "", "lt": "A", "mapping": "", "ne": "A", "none": "",
    "number": "", "odd": "", "sequence": "", "string": "", "test": "", "true": "", "undefined": "", "upper": "", "lessthan": "A", "greaterthan": "A",
}
FORMATS = ["%s", "%d", "%r", "%05.2f", "%x", "%c", "%%", "%5s|", "%-5s|", "%+d", "%.3s", "%e", "%g", "%G", "%#x", "%o", "%05d", "% d", "%i", "%X", "%a", "%*d",
           "%.10g", "%(x)s", "%(x)5d", "%.0f", "%10.3e", "%q", "%", "%#o", "%F", "%-+8.2f|", "%5%", "%u", "%#g", "%.2r"]
BRACES = ["{}", "{0}", "{x}", "{:>8}", "{:<8}|", "{:^9}|", "{:*^9}", "{:05d}", "{:+.2f}", "{:,}", "{:_}", "{:x}", "{:#x}", "{:b}", "{:e}", "{:.3}", "{:%}", "{!r}",
          "{!s:>6}", "{:{}}", "{0[0]}", "{0.real}", "{x[k]}", "{{}}", "{", "}", "{:d}", "{:s}", "{:g}", "{:c}", "{:n}", "{:=+8}", "{:08.2f}", "{!a}", "{:.2%}",
          "{:>08}", "{: d}", "{:X}", "{:#b}", "{:G}", "{0}{}", "{1}", "{:,.2f}", "{:10,}", "{:010,}", "{:.0f}", "{:#.3g}"]


def quoted(text, rng):
    quote = rng.choice("'\"")
    out = quote
    for c in text:
        if c == quote or c == "\\":
            out += "\\" + c
        elif c == "\n" and rng.random() < 0.7:
            out += "\\n"
        elif c in "\r\x00\x07\x0b\x0c\x1c\x1f":
            out += "\\x%02x" % ord(c)
        elif ord(c) > 126 and rng.random() < 0.2:
            out += "\\u%04x" % ord(c) if ord(c) < 0x10000 else "\\U%08x" % ord(c)
        else:
            out += c
    return out + quote


class Generator:
    def __init__(self, rng):
        self.rng = rng
        self.names = []  # variables set by the template
        self.macros = []
        self.loops = 0
        self.blocks = 0

    def pick(self, *makers):
        return self.rng.choice(makers)()

    def chance(self, p):
        return self.rng.random() < p

    # Expressions. Types: str int float bool list dict none undefined; "n" a number, "a" anything.
    def expr(self, kind="a", depth=3):
        if self.chance(0.06):
            kind = "a"  # a wrong type now and then
        if kind == "a":
            kind = self.rng.choices(TYPES, [8, 5, 3, 2, 5, 3, 1, 1])[0]
        if kind == "n":
            kind = self.rng.choice(["int", "int", "float", "bool"])
        if depth > 0 and self.chance(0.12):
            return self.wrapped(kind, depth - 1)
        if depth > 0 and self.chance(0.65):
            return getattr(self, kind + "_expr", lambda depth: self.leaf(kind))(depth - 1)
        return self.leaf(kind)

    def leaf(self, kind):
        if self.names and self.chance(0.15):
            return self.rng.choice(self.names)
        if kind == "str" and self.chance(0.5):
            return quoted(self.rng.choice(STRINGS), self.rng)
        if kind == "int" and self.chance(0.6):
            return self.rng.choice(["0", "1", "2", "3", "7", "10", "-1", "0x1f", "0b101", "0o17", "1_000", "255", "97"])
        if kind == "float" and self.chance(0.6):
            return self.rng.choice(["0.5", "1.0", "2.5", "1e3", "1.5e-7", "3.14159", "1e22", "0.1", "100.0", "2.675", "1_0.5", "-0.0"])
        if kind == "bool":
            return self.rng.choice(["true", "false", "True", "False", "yes", "no"])
        if kind == "none":
            return self.rng.choice(["none", "None", "nothing"])
        return self.rng.choice(BY_TYPE[kind])

    def wrapped(self, kind, depth):
        inner = self.expr(kind, depth)
        return self.pick(
            lambda: "(%s)" % inner, lambda: "(%s if %s else %s)" % (inner, self.expr("bool", depth), self.expr(kind, depth)),
            lambda: "(%s if %s)" % (inner, self.expr("bool", depth)), lambda: "(%s or %s)" % (inner, self.expr(kind, depth)),
            lambda: "(%s and %s)" % (self.expr("a", depth), inner), lambda: "%s|default(%s)" % (self.operand(inner), self.expr(kind, depth)),
            lambda: "[%s, %s][%s]" % (inner, self.expr(kind, depth), self.rng.choice(["0", "1", "-1"])), lambda: "{'k': %s}.k" % inner,
            lambda: "namespace(v=%s).v" % inner, lambda: "[%s]|%s" % (inner, self.rng.choice(["first", "last", "min", "random" if 0 else "max"])))

    def operand(self, text):
        return text if text.replace("_", "a").isalnum() or text[0] in "'\"([" and self.chance(0.3) and not text.startswith("(") else "(%s)" % text

    def argument(self, code, depth):
        rng = self.rng
        if code == "s":
            return rng.choice(["'a'", "'l'", "'-'", "' '", "''", "'\\n'", "'ab'", "'ö'", self.expr("str", 0), self.expr("str", 0)])
        if code == "S":
            return rng.choice(["'-'", "none", "' '", "','", "'a'", "'ö'", "''"])
        if code in "iI":
            return rng.choice(["0", "1", "2", "-1", "3", "5", "none" if code == "I" and self.chance(0.2) else "-2", "n", "100"])
        if code == "B":
            return rng.choice(["true", "false"])
        if code in "wW":
            return rng.choice(["0", "1", "2", "3", "5", "8", "12", "20", "-1"])
        if code == "c":
            return rng.choice(["'*'", "' '", "'ö'", "'ab'"])
        if code == "l":
            return self.expr("list", depth)
        if code == "A":
            return self.expr("a", depth)
        if code == "N":
            return self.expr("n", depth)
        if code == "k":
            return rng.choice(["'k'", "'v'", "'w'", "'w.u'", "'zz'", "0", "'0'"])
        if code == "r":
            return rng.choice(["0", "1", "2", "-1", "3"])
        if code == "T":
            name = rng.choice(list(TESTS) + ["==", "!=", "<", ">="])
            more = [self.argument(c, 0) for c in TESTS.get(name, "A")]
            return ", ".join([quoted(name, rng)] + more)
        if code == "M":
            name = rng.choice(list(FILTERS))
            return ", ".join([quoted(name, rng)] + self.arguments(FILTERS[name][1] if name not in ("map", "format") else "", 0))
        raise ValueError(code)

    def arguments(self, codes, depth):
        if not codes:
            return []
        required = sum(c.islower() and c not in "r" for c in codes)
        n = self.rng.randint(min(required, len(codes)), len(codes))
        return [self.argument(c, depth) for c in codes[:n]]

    def filtered(self, depth, name=None):
        name = name or self.rng.choice(list(FILTERS))
        subject, codes = FILTERS[name]
        kinds = {"s": "str", "l": "list", "m": "dict", "n": "n", "a": "a"}
        if subject == "R":
            source = self.rng.choice(["rows", "rows", "rows", "nested", "messages"])
        elif subject == "F":
            source = quoted("".join(self.rng.choice(FORMATS + ["x", " "]) for _ in range(self.rng.randint(1, 3))), self.rng)
        else:
            source = self.operand(self.expr(kinds[subject], depth))
        if name in KEYWORDS and KEYWORDS[name] and self.chance(0.5):
            args = self.rng.choice(KEYWORDS[name])
            if "attribute" in args and self.chance(0.8):
                source = "rows"
        else:
            args = ", ".join(self.arguments(codes, depth if depth < 1 else 1))
        return "%s|%s%s" % (source, name, "(%s)" % args if args or self.chance(0.1) else "")

    def method(self, depth):
        name = self.rng.choice(list(STRING_METHODS))
        codes = STRING_METHODS[name] or ""
        args = self.arguments(codes, 0)
        return "%s.%s(%s)" % (self.operand(self.expr("str", depth)), name, ", ".join(args))

    def slice(self):
        bound = lambda: self.rng.choice(["", "", "0", "1", "2", "-1", "-2", "5", "100", "-100", "none"])
        step = self.rng.choice(["", "", ":", ":2", ":-1", ":-2", ":1", ":3"])
        return "[%s:%s%s]" % (bound(), bound(), step)

    def percent(self, depth):
        text = "".join(self.rng.choice(FORMATS + ["-", "ä"]) for _ in range(self.rng.randint(1, 2)))
        value = self.pick(lambda: self.expr("a", depth), lambda: "(%s, %s)" % (self.expr("a", depth), self.expr("n", depth)), lambda: "{'x': %s}" % self.expr("a",
                          depth), lambda: "(%s,)" % self.expr("a", depth))
        return "%s %% %s" % (quoted(text, self.rng), value)

    def braces(self, depth):
        text = "".join(self.rng.choice(BRACES + ["-", "ä"]) for _ in range(self.rng.randint(1, 2)))
        args = [self.expr(self.rng.choice(["a", "n", "str"]), depth) for _ in range(self.rng.randint(1, 3))]
        if self.chance(0.3):
            args.append("x=%s" % self.expr("a", depth))
        return "%s.format(%s)" % (quoted(text, self.rng), ", ".join(args))

    def str_expr(self, depth):
        e = lambda kind: self.expr(kind, depth)
        return self.pick(
            lambda: self.method(depth), lambda: self.method(depth), lambda: self.method(depth), lambda: self.percent(depth), lambda: self.braces(depth),
            lambda: "%s ~ %s" % (self.operand(e("a")), self.operand(e("a"))), lambda: "%s + %s" % (self.operand(e("str")), self.operand(e("str"))),
            lambda: "%s * %s" % (self.operand(e("str")), self.rng.choice(["2", "0", "-1", "3", "true"])), lambda: self.operand(e("str")) + self.slice(),
            lambda: "%s[%s]" % (self.operand(e("str")), self.rng.choice(["0", "-1", "1", "n", "99", "'upper'"])), lambda: self.filtered(depth),
            lambda: self.filtered(depth), lambda: "'a' 'b' %s" % quoted(self.rng.choice(STRINGS), self.rng), lambda: self.call(depth),
            lambda: "%s.%s" % (self.operand(e("str")), self.rng.choice(["foo", "append", "__class__", "upper", "0"])),
            lambda: "(%s).%s()" % (e("n"), self.rng.choice(["is_integer", "bit_length", "conjugate", "hex", "as_integer_ratio", "bit_count"])))

    def int_expr(self, depth):
        e = lambda kind: self.operand(self.expr(kind, depth))
        return self.pick(
            lambda: "%s %s %s" % (e("n"), self.rng.choice(["+", "-", "*", "//", "%"]), e("n")), lambda: "%s ** %s" % (e("n"), self.rng.choice(["0", "1", "2",
            "3", "-1", "0.5"])), lambda: "-%s" % e("n"), lambda: "+%s" % e("n"), lambda: "%s|length" % e("list"), lambda: "%s|int" % e("a"),
            lambda: "%s.%s(%s)" % (e("list"), self.rng.choice(["count", "index"]), self.expr("a", 0)), lambda: "%s|length" % e("str"),
            lambda: "%s.%s(%s)" % (e("str"), self.rng.choice(["count", "find", "rfind", "index", "rindex"]), ", ".join(self.arguments("sII", 0))),
            lambda: "%s %s %s" % (e("a"), self.rng.choice(["+", "-", "*", "//", "%", "/"]), e("a")) if self.chance(0.3) else "%s / %s" % (e("n"), e("n")))

    float_expr = int_expr

    def bool_expr(self, depth):
        e = lambda kind: self.operand(self.expr(kind, depth))
        compare = ["==", "!=", "<", "<=", ">", ">="]
        def test():
            name = self.rng.choice(list(TESTS))
            more = [self.argument(c, 0) for c in TESTS[name]]
            text = "%s is %s%s" % (e("a"), "not " if self.chance(0.3) else "", name)
            return "(%s%s)" % (text, "(%s)" % more[0] if more and self.chance(0.7) else " " + more[0] if more else "")
        return self.pick(
            test, test, test, lambda: "%s %s %s" % (e("n"), self.rng.choice(compare), e("n")), lambda: "%s %s %s" % (e("str"), self.rng.choice(compare), e("str")),
            lambda: "%s %s %s" % (e("a"), self.rng.choice(compare), e("a")), lambda: "%s %s %s %s %s" % (e("n"), self.rng.choice(compare), e("n"),
            self.rng.choice(compare), e("n")), lambda: "%s %s %s" % (e("a"), self.rng.choice(["in", "not in"]), self.pick(lambda: e("list"), lambda: e("str"),
            lambda: e("dict"))), lambda: "not %s" % e("a"), lambda: "%s %s %s" % (e("a"), self.rng.choice(["and", "or"]), e("a")),
            lambda: "%s.%s(%s)" % (e("str"), self.rng.choice(["startswith", "endswith"]), ", ".join(self.arguments("sII", 0))))

    def list_expr(self, depth):
        e = lambda kind: self.expr(kind, depth)
        inner = lambda: ", ".join(e("a") for _ in range(self.rng.randint(0, 3)))
        name = lambda: self.rng.choice(["batch", "slice", "map", "select", "reject", "selectattr", "rejectattr", "sort", "unique", "reverse", "groupby", "items",
                                        "dictsort"])
        return self.pick(
            lambda: "[%s]" % inner(), lambda: "(%s,)" % e("a"), lambda: "(%s, %s)" % (e("a"), e("a")), lambda: "range(%s)" % ", ".join(self.rng.choice(["0", "3",
            "5", "-2", "1", "2"]) for _ in range(self.rng.randint(1, 3))), lambda: self.operand(e("list")) + self.slice(), lambda: "%s + %s" % (self.operand(
            e("list")), self.operand(e("list"))), lambda: "%s * 2" % self.operand(e("list")), lambda: "%s|list" % self.filtered(depth, name()), lambda:
            "%s|list" % self.filtered(depth, name()), lambda: self.filtered(depth, name()), lambda: "%s.%s()" % (self.operand(e("dict")), self.rng.choice(["items",
            "keys", "values"])), lambda: "%s.split(%s)" % (self.operand(e("str")), ", ".join(self.arguments("SI", 0))), lambda: "%s|list" % self.operand(
            e(self.rng.choice(["str", "dict", "list"]))), lambda: "%s.splitlines()" % self.operand(e("str")))

    def dict_expr(self, depth):
        e = lambda kind: self.expr(kind, depth)
        return self.pick(
            lambda: "{%s}" % ", ".join("%s: %s" % (self.expr(self.rng.choice(["str", "str", "int", "a"]), 0), e("a")) for _ in range(self.rng.randint(0, 3))),
            lambda: "dict(%s, z=%s)" % (e("dict"), e("a")), lambda: "dict(a=%s)" % e("a"), lambda: "dict([('a', %s), ['b', 2]])" % e("a"),
            lambda: "dict(%s)" % e("list"), lambda: "%s.%s" % (self.operand(e("dict")), self.rng.choice(["a", "b", "x", "k", "copy()", "get('b')",
            "get('q', 3)", "get('a')", "items", "update({})", "pop('b')"])), lambda: "%s[%s]" % (self.operand(e("dict")), self.expr("a", 0)))

    def call(self, depth):
        if self.macros and self.chance(0.8):
            name, count = self.rng.choice(self.macros)
            args = [self.expr("a", depth) for _ in range(self.rng.randint(0, count))]
            if self.chance(0.2):
                args.append("*%s" % self.operand(self.expr("list", 0)))
            if self.chance(0.2):
                args.append(self.rng.choice(["p0=1", "p1='x'", "other=2"]))
            if self.chance(0.1):
                args.append("**%s" % self.rng.choice(["{'p1': 3}", "d", "{}", "{'k': 1}"]))
            return "%s(%s)" % (name, ", ".join(args))
        return self.rng.choice(["range(3)|join", "namespace(a=1).a", "dict(a=1)|tojson", "cycler('a', 'b').next()", "joiner('-')()", "strftime_now('%d %b %Y')",
                                "range(n)|list", "raise_exception('x')" if self.chance(0.1) else "joiner()()"])

    # Statements.
    def name(self):
        return self.rng.choice(["a", "b", "c", "x", "y"])

    def open(self, what):
        rng = self.rng
        return "{%" + rng.choice(["", "", "", "-", "+"]) + " " + what + " " + rng.choice(["", "", "", "-", "+"]) + "%}" + rng.choice(["", "", "\n", " ", "\n  "])

    def body(self, depth, loops=None):
        saved, names, macros = self.loops, list(self.names), list(self.macros)
        self.loops = self.loops if loops is None else loops
        out = "".join(self.statement(depth - 1) for _ in range(self.rng.randint(1, 3)))
        self.loops, self.names, self.macros = saved, names if self.chance(0.7) else self.names, macros if self.chance(0.7) else self.macros
        return out

    def statement(self, depth):
        simple = [self.text, self.output, self.output, self.output, self.set]
        blocks = [self.if_block, self.for_block, self.for_block, self.set_block, self.macro, self.call_block, self.filter_block, self.with_block, self.raw,
                  self.comment, self.generation, self.named_block, self.recursive]
        if self.loops and self.chance(0.1):
            return self.open("if " + self.expr("bool", 1)) + self.open(self.rng.choice(["break", "continue"])) + self.open("endif")
        return self.rng.choice(simple + blocks if depth > 0 else simple)() if depth <= 0 or self.chance(0.5) else self.rng.choice(blocks)(depth)

    def text(self, depth=0):
        return self.rng.choice([" x ", "\n", "  \n  ", "word", "\r\n", "\u2003", "é", "{ ", "}} ", "a\n", "\t", "%}", "#}", "\r"])

    def output(self, depth=0):
        return "{{" + self.rng.choice(["", "", "-"]) + " " + self.expr("a", 3) + (", 1" if self.chance(0.03) else "") + " " + self.rng.choice(["", "", "-"]) + "}}" + self.rng.choice(["", "|", "\n"])

    def set(self, depth=0):
        if self.chance(0.15):
            return self.open("set ns = namespace(c=%s)" % self.expr("a", 1)) + self.open("set ns.c = %s" % self.expr("a", 2)) + "{{ ns.c }}"
        if self.chance(0.15):
            return self.open("set %s, %s = %s" % (self.name(), self.name(), self.pick(lambda: self.expr("list", 1), lambda: "1, 'z'", lambda: "'pq'")))
        name = self.name()
        out = self.open("set %s = %s" % (name, self.expr("a", 3)))
        self.names.append(name)
        return out

    def if_block(self, depth=1):
        out = self.open("if " + self.expr(self.rng.choice(["bool", "a"]), 2)) + self.body(depth)
        if self.chance(0.3):
            out += self.open("elif " + self.expr("bool", 2)) + self.body(depth)
        if self.chance(0.4):
            out += self.open("else") + self.body(depth)
        return out + self.open("endif")

    def for_block(self, depth=1):
        target, source = self.pick(lambda: (self.name(), self.expr("list", 2)), lambda: (self.name(), self.expr("a", 1)), lambda: ("a, b", self.rng.choice(["d.items()",
            "dd|items", "[(1, 2), (3, 4)]", "nested", "d|dictsort", "rows|groupby('k')"])), lambda: ("(a, b), c", "[((1, 2), 3)]"), lambda: (self.name(), "xs"))
        out = "for %s in %s" % (target, source)
        if self.chance(0.25):
            out += " if " + self.expr("bool", 1)
        names = list(self.names)
        self.names += [n for n in target if n in "abcxy"]
        out = self.open(out)
        inside = self.rng.choice(["loop.index", "loop.index0", "loop.revindex", "loop.revindex0", "loop.first", "loop.last", "loop.length", "loop.depth",
                                  "loop.depth0", "loop.cycle('o', 'e')", "loop.changed(%s)" % self.name(), "loop.previtem", "loop.nextitem", "loop.previtem is defined",
                                  "loop['index']", "loop.foo", "loop"])
        if self.chance(0.6):
            out += "{{ %s }}" % inside
        out += self.body(depth, self.loops + 1)
        self.names = names
        if self.chance(0.2):
            out += self.open("else") + self.body(depth, 0)
        return out + self.open("endfor")

    def recursive(self, depth=1):
        return self.open("for i in tree recursive") + "{{ loop.depth }}{{ i.n }}" + self.body(0, 0) + self.open("if i.c") + "({{ loop(i.c)%s }})" % self.rng.choice([
            "", "|upper", "|length"]) + self.open("endif") + self.open("endfor")

    def set_block(self, depth=1):
        name = self.name()
        out = self.open("set %s%s" % (name, self.rng.choice(["", "|upper", "|trim|length", "|replace('a', 'b')"]))) + self.body(depth, 0) + self.open("endset")
        self.names.append(name)
        return out + "{{ %s }}" % name

    def macro(self, depth=1):
        count = self.rng.randint(0, 3)
        params, default = [], False
        for i in range(count):
            default = default or self.chance(0.4)
            params.append("p%d" % i + ("=%s" % self.expr("a", 1) if default else ""))
        name = "m%d" % self.rng.randint(0, 3)
        names = list(self.names)
        self.names = self.names + ["p%d" % i for i in range(count)]
        extra = self.rng.choice(["", "", "{{ varargs }}", "{{ kwargs }}", "{{ varargs|length }}{{ kwargs|tojson }}", "{{ caller() }}", "{{ caller(1) if caller }}"])
        out = self.open("macro %s(%s)" % (name, ", ".join(params))) + "".join("[{{ p%d }}]" % i for i in range(count)) + self.body(depth, 0) + extra + self.open("endmacro")
        self.names = names
        self.macros.append((name, count))
        return out + self.rng.choice(["", "{{ %s.name }}{{ %s.arguments }}{{ %s.catch_varargs }}" % (name, name, name)])

    def call_block(self, depth=1):
        if not self.macros:
            return self.macro(depth)
        params = self.rng.choice(["", "", "(v)", "(v='d')", "(v, w=1)"])
        return self.open("call%s %s" % (params, self.call_macro())) + self.body(depth, 0) + ("{{ v }}" if params else "") + self.open("endcall")

    def call_macro(self):
        name, count = self.rng.choice(self.macros)
        return "%s(%s)" % (name, ", ".join(self.expr("a", 1) for _ in range(self.rng.randint(0, count))))

    def filter_block(self, depth=1):
        return self.open("filter " + self.rng.choice(["upper", "trim", "replace('a', 'b')|title", "indent(2)", "length", "escape", "wordcount"])) + self.body(
            depth, 0) + self.open("endfilter")

    def with_block(self, depth=1):
        name, names = self.name(), list(self.names)
        out = self.open("with %s = %s, %s = %s" % (name, self.expr("a", 1), self.name(), self.expr("a", 1))) if self.chance(0.8) else self.open("with")
        self.names.append(name)
        out += self.body(depth, 0) + self.open("endwith")
        self.names = names
        return out

    def raw(self, depth=1):
        return "{%" + self.rng.choice(["", "-"]) + " raw " + self.rng.choice(["", "-"]) + "%}" + self.text() + "{{ x }}{% if %}" + self.text() + self.open("endraw")

    def comment(self, depth=1):
        return "{#" + self.rng.choice(["", "-", "+"]) + " c {{ x }} " + self.rng.choice(["", "-", "+"]) + "#}" + self.text()

    def generation(self, depth=1):
        return self.open("generation") + self.body(depth, 0) + self.open("endgeneration")

    def named_block(self, depth=1):
        self.blocks += 1
        name = "blk%d" % self.blocks
        return self.open("block " + name) + self.body(depth, 0) + self.open("endblock" + self.rng.choice(["", " " + name]))

    def template(self):
        return "".join(self.statement(2) for _ in range(self.rng.randint(1, 4)))


def make(rng):
    return Generator(rng).template()
