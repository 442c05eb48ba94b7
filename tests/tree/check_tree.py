#!/usr/bin/env python3
"""The tree checks itself: layers include only downwards, a type's name has one owner, files and functions stay short."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80

# folder → folders it may include (docs/architecture.md). Its own is always allowed.
LAYERS = {
    "base": [],
    "config": ["base"],
    "model": ["base"],
    "kernels": ["base", "model"],
    "wire": ["base"],
    "parallel": ["base", "model"],
    "worker": ["base", "model", "kernels", "wire", "parallel"],
    "coordinator": ["base", "config", "model", "wire", "parallel"],
    "bench": ["base", "config", "model", "kernels", "wire", "parallel", "worker", "coordinator"],
    "cli": ["base", "config", "model", "kernels", "wire", "parallel", "worker", "coordinator", "bench"],
    "tests": None,  # anything
}
CPP = (".cc", ".h", ".cu", ".cuh", ".inl", ".inc")
SOURCES = (*CPP, ".proto", ".py", ".mjs")


def tracked_files():
    output = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in output.decode().split("\0") if name]


def check_includes(path, text, problems):
    folder = path.relative_to(ROOT).parts[0]
    allowed = LAYERS.get(folder)
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not match:
            continue
        target = match.group(1)
        top = target.split("/")[0]
        if top not in LAYERS or (top == "tests" and folder != "tests"):
            problems.append(f"{path.relative_to(ROOT)}:{number}: include \"{target}\" is not from a layer; "
                            "write paths from the project's root")
        elif allowed is not None and top != folder and top not in allowed:
            problems.append(f"{path.relative_to(ROOT)}:{number}: {folder}/ may not include {top}/")


def blank_literals(text):
    """The text with comments, strings and characters replaced by spaces; lines are kept."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)


def plain_code(text):
    """The text without what could hide or fake a brace: literals, comments, preprocessor lines; lines are kept."""
    text = re.sub(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])", "", text)  # digit separators
    return "\n".join("" if line.lstrip().startswith("#") else line for line in blank_literals(text).split("\n"))


TYPE = re.compile(r"\b(?:class|struct|union|enum(?:\s+(?:class|struct))?)\s+(?:\[\[.*?\]\]\s*|alignas\s*\([^)]*\)\s*)*"
                  r"(\w+)\s*(?:final\s*)?(?::[^:].*)?$", re.S)


def types(text):
    """(line, qualified name) of every class, struct, union and enum that other files could see."""
    text = plain_code(text)
    scopes, start = [], 0  # of each open brace: a namespace's name, or None: nothing within is seen by its plain name
    for index, char in enumerate(text):
        if char == "{":
            head = text[start:index].strip()
            namespace = re.search(r"\bnamespace\b\s*([\w:]*)$", head)
            found = TYPE.search(head)
            if found and None not in scopes:
                yield text.count("\n", 0, index) + 1, "::".join([*scopes, found.group(1)])
            scopes.append((namespace.group(1) or None) if namespace else None)
        elif char == "}" and scopes:
            scopes.pop()
        if char in ";{}":
            start = index + 1


def check_owners(owners, problems):
    """`owners`: name → places. Two definitions of one name are one type for the linker, which takes either."""
    for name, places in sorted(owners.items()):
        if len({place.rsplit(":", 1)[0] for place in places}) > 1:
            problems.append(f"{name} is defined in " + " and ".join(places) +
                            "; rename one, or put it into a namespace without a name")


def functions(text):
    """(first line, lines) of every outermost function body."""
    text = plain_code(text)
    stack, start, data_lines = [], 0, 0
    for index, char in enumerate(text):
        if char in ";}":
            start = index + 1
        if char == "{":
            head = text[start:index]
            in_function = any(kind == "function" for kind, _ in stack)
            is_container = re.search(r"\b(namespace|class|struct|union|enum|extern)\b", head) and \
                not re.search(r"\)\s*(const|noexcept|override|final|->[^{]*|\s)*$", head)
            if head.rstrip().endswith("="):
                kind = "data"  # a table does not make a function hard to read
            else:
                kind = "inner" if in_function or is_container or ")" not in head else "function"
            stack.append((kind, text.count("\n", 0, start + len(head) - len(head.lstrip())) + 1))
            start = index + 1
        elif char == "}" and stack:
            kind, first = stack.pop()
            length = text.count("\n", 0, index) + 2 - first
            if kind == "data" and all(outer != "data" for outer, _ in stack):
                data_lines += length - 1
            if kind == "function":
                yield first, length - data_lines
            if not any(outer == "function" for outer, _ in stack):
                data_lines = 0
    if stack:
        yield 0, -1  # unbalanced: the scanner did not understand the file


def check_file(path, owners, problems):
    text = path.read_text(encoding="utf-8", errors="replace")
    name = path.relative_to(ROOT)
    lines = text.count("\n")
    if lines > MAX_FILE_LINES:
        problems.append(f"{name}: {lines} lines; at most {MAX_FILE_LINES}")
    if path.suffix in CPP:
        check_includes(path, text, problems)
        for line, owned in types(text):
            owners.setdefault(owned, []).append(f"{name}:{line}")
        for first, length in functions(text):
            if length < 0:
                problems.append(f"{name}: braces do not balance for this check")
            elif length > MAX_FUNCTION_LINES:
                problems.append(f"{name}:{first}: a function of {length} lines; at most {MAX_FUNCTION_LINES}")


def self_test():
    """The checks must be able to fail."""
    body = "int f(int a) {\n" + "  ++a;\n" * 90 + "  return a;\n}\n"
    found = list(functions("namespace x {\n" + body + "}\n"))
    assert found == [(2, 93)], found
    assert list(functions('const char* s = "{";\nstruct A { int b() const { return 1; } };\n')) == [(2, 1)]
    problems = []
    check_includes(ROOT / "base" / "x.cc", '#include "model/gguf.h"\n', problems)
    check_includes(ROOT / "coordinator" / "x.cc", '#include "kernels/device.h"\n', problems)
    check_includes(ROOT / "worker" / "x.cc", '#include "kernels/device.h"\n', problems)
    assert len(problems) == 2, problems
    seen = [name for _, name in types("""
        namespace shoal { namespace { struct Hidden { int a; }; }
        class A; struct A final : B<1> { struct Nested {}; enum E { x }; };
        template <class T> struct Box { T t; };
        template <> struct Box<int> { };
        enum class Kind : uint8_t { k }; void f(struct A* a) { struct Local {}; }
        namespace deep::down { union alignas(8) U { int i; }; } }
        struct [[nodiscard]] Outside { int brace = '{'; };
    """)]
    assert seen == ["shoal::A", "shoal::Box", "shoal::Kind", "shoal::deep::down::U", "Outside"], seen
    problems = []
    check_owners({"shoal::A": ["a.h:1", "b.cc:9"], "shoal::B": ["c.h:1", "c.h:5"]}, problems)
    assert len(problems) == 1, problems


def main():
    self_test()
    problems, owners = [], {}
    count = 0
    for path in tracked_files():
        if path.suffix in SOURCES and path.exists() and path.relative_to(ROOT).parts[0] in LAYERS:
            count += 1
            check_file(path, owners, problems)
    check_owners(owners, problems)
    for problem in problems:
        print(problem)
    print(f"{count} files checked, {len(problems)} problems")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
