#!/usr/bin/env python3
"""The tree checks itself: layers include only downwards, a type's name has one owner, files and functions stay short."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80

# room → folders, rooms or headers it may include besides its own (docs/architecture.md). The longest name that fits a file
# is its room; what is inside it (a folder that is not listed) belongs to it.
ROOMS = {
    "base": [],
    "config": ["base"],
    "model": ["base"],
    "kernels": ["base", "model", "kernels"],
    "kernels/formats": ["base", "model", "kernels/body"],
    "wire": ["base"],
    "parallel/plan": ["base", "model"],
    "parallel/collective": ["base"],
    "worker/core": ["base", "wire"],
    "worker": ["base", "model", "kernels", "wire", "parallel", "worker/core"],
    "coordinator/core": ["base", "wire", "parallel/plan"],
    "coordinator": ["base", "wire", "coordinator/core"],
    "coordinator/gateway": ["base", "config", "model", "wire", "coordinator/core/token_service.h"],
    "coordinator/server": ["base", "config", "model", "kernels/formats", "wire", "parallel/plan", "coordinator"],
    "bench": ["base", "config", "model", "kernels", "wire", "parallel", "worker", "coordinator"],
    "cli": ["base", "config", "model", "kernels", "wire", "parallel", "worker", "coordinator", "bench"],
    "tests": None,  # anything
}
FOLDERS = {room.split("/")[0] for room in ROOMS}
CPP = (".cc", ".h", ".cu", ".cuh", ".inl", ".inc")
SOURCES = (*CPP, ".proto", ".py", ".mjs")


def tracked_files():
    output = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in output.decode().split("\0") if name]


def room_of(name):
    """The room of a file, by its path from the root; None if it is in none."""
    parts = name.split("/")[:-1]
    return next((room for end in range(len(parts), 0, -1) if (room := "/".join(parts[:end])) in ROOMS), None)


def check_includes(path, text, problems):
    name = path.relative_to(ROOT).as_posix()
    room = room_of(name)
    if room is None:
        problems.append(f"{name}: belongs to no room: name its folder in ROOMS (tests/tree/check_tree.py)")
        return
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not match:
            continue
        target = match.group(1)
        owner = room_of(target)
        if owner is None or (owner == "tests" and room != "tests"):
            problems.append(f"{name}:{number}: include \"{target}\" is not from a room; write paths from the project's root")
        elif ROOMS[room] is not None and owner != room and \
                not any(target == allowed or target.startswith(allowed + "/") for allowed in ROOMS[room]):
            problems.append(f"{name}:{number}: {room}/ may not include {owner}/")


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
    for path, target, allowed in [
            ("base/x.cc", "model/gguf.h", False), ("coordinator/server/x.cc", "kernels/device.h", False),
            ("worker/x.cc", "kernels/device.h", True), ("worker/x.cc", "kernels/formats/decode.h", True),
            ("coordinator/core/x.cc", "coordinator/gateway/gateway.h", False), ("coordinator/core/x.cc", "coordinator/metrics.h", False),
            ("coordinator/x.cc", "coordinator/core/core.h", True), ("coordinator/x.cc", "coordinator/server/server.h", False),
            ("coordinator/gateway/x.cc", "coordinator/core/token_service.h", True),
            ("coordinator/gateway/x.cc", "coordinator/core/core.h", False), ("coordinator/server/x.cc", "coordinator/gateway/auth.h", True),
            ("coordinator/server/x.cc", "kernels/formats/decode.h", True), ("kernels/formats/x.cc", "kernels/device.h", False),
            ("kernels/cpu/x.cc", "kernels/formats/decode.h", True), ("parallel/plan/x.h", "parallel/collective/sum.h", False),
            ("parallel/x.cc", "base/status.h", False), ("model/arch/x.cc", "model/gguf.h", True), ("model/x.cc", "gguf.h", False),
            ("tests/x.cc", "cli/commands.h", True), ("cli/x.cc", "tests/support/support.h", False)]:
        problems = []
        check_includes(ROOT / path, f'#include "{target}"\n', problems)
        assert bool(problems) != allowed, (path, target, problems)
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
        if path.suffix in SOURCES and path.exists() and path.relative_to(ROOT).parts[0] in FOLDERS:
            count += 1
            check_file(path, owners, problems)
    check_owners(owners, problems)
    for problem in problems:
        print(problem)
    print(f"{count} files checked, {len(problems)} problems")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
