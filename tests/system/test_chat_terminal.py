"""shoal chat in a pseudo-terminal: editing, history, pasting, Ctrl-C, errors, commands."""
import json
import os
import pathlib
import signal
import stat
import tempfile
import threading
import time
import unittest

from fake_openai import FakeServer, data, delta, stream
from harness import SHOAL, SLOWDOWN, TINY_DENSE, Server, main
from terminal import Terminal

UP, DOWN, LEFT, HOME = "\x1b[A", "\x1b[B", "\x1b[D", "\x1b[H"
CTRL_C, CTRL_D, CTRL_A, CTRL_Z = "\x03", "\x04", "\x01", "\x1a"


def pasted(text):
    """As terminals send it: marked, line ends as returns."""
    return "\x1b[200~" + text.replace("\n", "\r") + "\x1b[201~"


class Chat(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.server = FakeServer()
        self.addCleanup(self.server.__exit__)
        self.release = threading.Event()  # for answers that wait

    def open(self, *args, env=None, **kwargs):
        terminal = Terminal([SHOAL, "chat", "--url", self.server.url, *args],
                            env={"XDG_STATE_HOME": str(self.folder), "HOME": str(self.folder), **(env or {})},
                            **kwargs)
        self.addCleanup(terminal.close)
        terminal.wait_for("/help lists commands, Ctrl-D leaves.\n> ")
        return terminal

    def asks(self, terminal, keys, question):
        """Types; the next request's last message must be `question`."""
        before, mark = len(self.server.posts()), terminal.mark()
        terminal.type(keys)
        self.server.wait_for_posts(before + 1, 20 * SLOWDOWN)
        self.assertEqual(self.server.last_question(), question)
        terminal.wait_for(r"\n> $", mark)
        self.assertEqual(len(self.server.posts()), before + 1)

    def leave(self, terminal, keys=CTRL_D):
        terminal.type(keys)
        self.assertEqual(terminal.wait(), 0)

    def slow(self, *pieces):
        """Answers that give these pieces and then wait until the client has left or release is set."""
        self.left = threading.Event()

        def answer(handler, _):
            handler.begin_stream()
            for piece in pieces:
                handler.put(data(delta(piece)))
            try:
                while not self.release.wait(0.05):
                    handler.put(b": waiting\n\n")
            except OSError:
                self.left.set()
                raise
            handler.put(stream("the end"))

        self.server.answer = answer

    # ---- editing

    def test_a_conversation_is_sent_whole(self):
        terminal = self.open()
        self.asks(terminal, "one\r", "one")
        self.asks(terminal, "two\r", "two")
        self.assertEqual([(m["role"], m["content"]) for m in self.server.posts()[1]["messages"]],
                         [("user", "one"), ("assistant", "You said: one"), ("user", "two")])
        self.leave(terminal)
        self.assertTrue(terminal.raw.endswith(b"\x1b[?2004l"), "bracketed paste stays on")

    def test_arrows_recall_also_in_another_run(self):
        terminal = self.open()
        self.asks(terminal, "first 東京\r", "first 東京")
        self.asks(terminal, "second\r", "second")
        self.asks(terminal, UP + UP + " again\r", "first 東京 again")
        self.asks(terminal, "unfinished" + UP + DOWN + "!\r", "unfinished!")
        self.leave(terminal)
        file = self.folder / "shoal" / "chat_history"
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(file.parent.stat().st_mode), 0o700)
        terminal = self.open()
        self.asks(terminal, UP + UP + UP + "\r", "second")
        self.leave(terminal)

    def test_several_lines_are_recalled_as_one(self):
        terminal = self.open()
        self.asks(terminal, pasted("one\ntwo") + "\r", "one\ntwo")
        self.leave(terminal)
        terminal = self.open()
        self.asks(terminal, UP + "!\r", "one\ntwo!")
        self.leave(terminal)

    def test_history_is_bounded(self):
        file = self.folder / "shoal" / "chat_history"
        file.parent.mkdir()
        file.write_text("".join(json.dumps(f"question {i} " + "x" * 2000) + "\n" for i in range(4000)) + "no JSON\n")
        terminal = self.open()
        self.asks(terminal, UP + "\r", "question 3999 " + "x" * 2000)
        self.leave(terminal)
        self.assertLess(file.stat().st_size, 3 << 20)

    def test_history_that_cannot_be_kept_does_not_matter(self):
        shadow = self.folder / "shoal"
        shadow.write_text("a file where the folder should be")
        for env in ({}, {"XDG_STATE_HOME": None, "HOME": None}, {"XDG_STATE_HOME": "/proc/nowhere"},
                    {"XDG_STATE_HOME": "", "HOME": "/nonexistent"}):
            terminal = self.open(env=env)
            self.asks(terminal, "hello\r", "hello")
            self.asks(terminal, UP + "!\r", "hello!")
            self.leave(terminal)
        self.assertFalse(os.path.exists("/nonexistent"))

    def test_wide_characters_are_erased_whole(self):
        terminal = self.open()
        self.asks(terminal, "a東京\x7f\x7fb\r", "ab")
        self.asks(terminal, "東é😀" + LEFT + LEFT + "\x7fx" + HOME + "y\r", "yxé😀")
        self.leave(terminal)

    def test_the_locale_does_not_matter(self):
        for env in ({"LANG": "C", "LC_ALL": "C"}, {"LANG": "de_DE.ISO-8859-1"}, {"LANG": None, "LC_ALL": "nonsense"},
                    {"LANG": "C.UTF-8"}):
            terminal = self.open(env=env)
            self.asks(terminal, "東京x\x7f\x7f!\r", "東!")
            self.leave(terminal)

    def test_sixty_columns(self):
        terminal = self.open(columns=60)
        text = "".join(f"word{i} " for i in range(40))
        self.asks(terminal, text + "東" * 40 + CTRL_A + "X\r", "X" + text + "東" * 40)
        terminal.resize(40)
        self.asks(terminal, text + "\x7f!\r", text[:-1] + "!")
        self.leave(terminal)

    def test_terminals_of_every_kind(self):
        for term in ("xterm", "linux", "vt100", "screen", "some-new-terminal"):
            terminal = self.open(env={"TERM": term})
            self.asks(terminal, "ab\x7fc\r", "ac")
            self.leave(terminal)
        nowhere = {name: "/nonexistent" for name in ("TERMINFO", "TERMINFO_DIRS", "HOME")}
        for env in ({"TERM": None}, {"TERM": "dumb"}, {"TERM": ""}, {"TERM": "xterm", **nowhere}):
            terminal = self.open(env=env)
            self.asks(terminal, "plain 東京\n", "plain 東京")
            mark = terminal.mark()
            terminal.type("half" + CTRL_C)
            terminal.wait_for(r"\n> $", mark)
            self.asks(terminal, "another\n", "another")
            self.asks(terminal, "pasted\nin lines\n", "pasted\nin lines")
            self.leave(terminal)

    def test_tab_completes_commands(self):
        terminal = self.open()
        terminal.type("/hel\t\r")
        terminal.wait_for("forget the conversation")
        self.leave(terminal)

    # ---- several lines

    def test_a_paste_is_one_message(self):
        terminal = self.open()
        text = "def f(x):\n\treturn x\n\n# 東京 \\ \"quoted\"\n" + "".join(f"line {i}\n" for i in range(300))
        self.asks(terminal, "Explain: " + pasted(text) + "\r", "Explain: " + text.rstrip("\n"))
        # Of a terminal that does not mark what is pasted.
        self.asks(terminal, "one\rtwo\r\rthree\r", "one\ntwo\n\nthree")
        self.asks(terminal, "one\ntwo\n", "one\ntwo")
        self.asks(terminal, "one\r\ntwo\r\n", "one\ntwo")
        self.asks(terminal, pasted("/* a comment */\nint x;\x1b[31m") + "\r", "/* a comment */\nint x;\x1b[31m")
        self.leave(terminal)

    def test_a_large_paste_is_whole(self):
        terminal = self.open()
        text = "".join(f"{i} lorem ipsum 東京\n" for i in range(20000))
        self.asks(terminal, pasted(text) + "\r", text.rstrip("\n"))
        self.asks(terminal, pasted("y" * 3000) + UP + DOWN + "!\r", "y" * 3000 + "!")
        self.leave(terminal)

    def test_ways_to_type_several_lines(self):
        terminal = self.open()
        for keys, question in (("one\\\r", None), ("two\r", "one\ntwo"), ('"""one\r', None), ("\r", None),
                               ('two"""\r', "one\n\ntwo"),
                               ('"""all"""\r', "all"), ("one\x1b\rtwo\r", "one\ntwo"),
                               ("a backslash \\\\\r", "a backslash \\\\")):
            if question is None:
                mark = terminal.mark()
                terminal.type(keys)
                terminal.wait_for(r"\n\. $", mark)
            else:
                self.asks(terminal, keys, question)
        mark = terminal.mark()
        terminal.type("given up\\\r")
        terminal.wait_for(r"\n\. $", mark)
        terminal.type(CTRL_C)
        terminal.wait_for(r"\n> $", mark)
        self.asks(terminal, "new\r", "new")
        self.leave(terminal)

    def test_what_is_typed_during_an_answer_comes_after_it(self):
        self.slow("thinking")
        terminal = self.open()
        terminal.type("one\r")
        terminal.wait_for("thinking")
        terminal.type("two\rthree\r")
        terminal.settle()
        self.assertNotIn("two", terminal.text())
        self.release.set()
        posts = self.server.wait_for_posts(3, 20 * SLOWDOWN)
        self.assertEqual([body["messages"][-1]["content"] for body in posts], ["one", "two", "three"])
        terminal.wait_for(r"the end\n> three\nthinkingthe end\n> $")
        self.leave(terminal)

    # ---- Ctrl-C, Ctrl-D, Ctrl-Z and other ends

    def test_ctrl_c_stops_the_answer_only(self):
        self.slow("Once upon")
        terminal = self.open()
        terminal.type("one\r")
        terminal.wait_for("Once upon")
        terminal.type(CTRL_C)
        terminal.wait_for(r"Once upon\n\[stopped\]\n> $")
        self.assertTrue(self.left.wait(20 * SLOWDOWN), "the server still computes")
        self.server.answer = lambda handler, _: stream("yes")
        self.asks(terminal, "two\r", "two")
        self.assertEqual(self.server.posts()[-1]["messages"][1], {"role": "assistant", "content": "Once upon"})
        self.leave(terminal)

    def test_ctrl_c_before_anything_came_takes_the_question_back(self):
        self.slow()
        terminal = self.open()
        terminal.type("one\r")
        self.server.wait_for_posts(1)
        terminal.type(CTRL_C)
        terminal.wait_for(r"\[stopped\]\n> $")
        self.server.answer = lambda handler, _: stream("yes")
        self.asks(terminal, "/retry\r", "one")
        self.assertEqual(len(self.server.posts()[-1]["messages"]), 1)
        self.leave(terminal)

    def test_ctrl_c_at_the_prompt(self):
        terminal = self.open()
        terminal.type(CTRL_C)
        terminal.wait_for(r"Ctrl-D or /exit leaves.\n> $")
        mark = terminal.mark()
        terminal.type("never mind")
        terminal.wait_for("never mind", mark)
        terminal.type(CTRL_C)
        terminal.wait_for(r"never mind\^C\n> $", mark)
        self.asks(terminal, "hello\r", "hello")
        os.kill(terminal.pid, signal.SIGINT)  # from elsewhere: the same
        self.asks(terminal, "still there\r", "still there")
        self.leave(terminal)

    def test_leaving(self):
        for keys in (CTRL_D, "/exit\r", "/bye\r", "/quit\r", "/exit \r"):
            terminal = self.open()
            self.leave(terminal, keys)
            self.assertTrue(terminal.echoes(), keys)

    def test_an_end_from_outside_leaves_a_usable_terminal(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            terminal = self.open()
            terminal.settle()
            os.kill(terminal.pid, number)
            deadline = time.monotonic() + 10
            while not terminal.ended() and time.monotonic() < deadline:
                terminal.pump(0.05)
            self.assertEqual(terminal.status, -number)
            terminal.settle(0.1)
            self.assertIn(b"\x1b[?2004l", terminal.raw)

    def test_a_stop_and_going_on(self):
        terminal = self.open()
        terminal.type("abc")
        terminal.wait_for("abc")
        terminal.settle()
        mark = terminal.mark()
        os.kill(terminal.pid, signal.SIGTSTP)
        terminal.wait_for("", mark)
        _, status = os.waitpid(terminal.pid, os.WUNTRACED)
        self.assertTrue(os.WIFSTOPPED(status))
        self.assertTrue(terminal.echoes())
        os.kill(terminal.pid, signal.SIGCONT)
        terminal.wait_for("> abc", mark)
        self.asks(terminal, "d\r", "abcd")
        self.leave(terminal)

    # ---- errors

    def test_an_error_keeps_the_conversation(self):
        terminal = self.open()
        self.asks(terminal, "one\r", "one")
        fine = self.server.answer
        half = data(delta("half"))
        for answer, said in (
                (lambda handler, _: handler.send_json(500, {"error": {"message": "no luck"}}), "HTTP 500: no luck"),
                (lambda handler, _: half, "the answer is cut off: the stream ended"),
                (lambda handler, _: half + data({"error": {"message": "worker lost"}}),
                 "half\nthe answer is cut off: worker lost"),
                (lambda handler, _: handler.connection.shutdown(2), "cannot reach|was lost")):
            self.server.answer = answer
            self.asks(terminal, "two\r", "two")
            terminal.wait_for(f"({said}).*retry asks again")
        self.server.answer = fine
        self.asks(terminal, "/retry\r", "two")
        self.assertEqual([m["content"] for m in self.server.posts()[-1]["messages"]], ["one", "You said: one", "two"])
        self.asks(terminal, "three\r", "three")
        self.assertEqual([m["content"] for m in self.server.posts()[-1]["messages"]],
                         ["one", "You said: one", "two", "You said: two", "three"])
        self.leave(terminal)

    def test_a_server_that_is_down_and_comes_back(self):
        terminal = self.open()
        self.asks(terminal, "one\r", "one")
        port = self.server.port
        self.server.__exit__()
        mark = terminal.mark()
        terminal.type("two\r")
        terminal.wait_for(rf"cannot reach http://127.0.0.1:{port}/v1: Connection refused.*\n> $", mark)
        self.leave(terminal)

    def test_a_lengthy_answer_says_that_it_is_cut(self):
        terminal = self.open()
        self.server.answer = lambda handler, _: stream("so far", finish="length")
        self.asks(terminal, "one\r", "one")
        terminal.wait_for(r"so far\nthe answer is cut off: it reached max_tokens")
        self.leave(terminal)

    # ---- what is shown

    def test_an_answer_cannot_command_the_terminal(self):
        terminal = self.open()
        self.server.answer = lambda handler, _: stream("a\x1b[2Jb\x07c\u009bd\x7fe\r\nf\tg\rh\x1b]0;title\x07")
        mark = terminal.mark()
        self.asks(terminal, "hi\r", "hi")
        shown = terminal.raw[mark:]
        for command in (b"\x1b[2J", b"\x07", b"\xc2\x9b", b"\x1b]"):
            self.assertNotIn(command, shown)
        terminal.wait_for(r"a\\x1b\[2Jb\\x07c\\xc2\\x9bd\\x7fe\nf\tg\\x0dh\\x1b\]0;title\\x07\n", mark)
        self.leave(terminal)

    def test_reasoning_is_dim_and_not_sent_back(self):
        terminal = self.open()
        thoughts = [{"reasoning_content": "hm, "}, {"reasoning": "well"}]
        thinking = b"".join(data({"choices": [{"delta": thought}]}) for thought in thoughts)
        self.server.answer = lambda handler, _: thinking + stream("yes")
        self.asks(terminal, "one\r", "one")
        self.assertIn(b"\x1b[2mhm, well\x1b[m\r\n\r\nyes\r\n", terminal.raw)
        self.asks(terminal, "two\r", "two")
        self.assertEqual(self.server.posts()[-1]["messages"][1], {"role": "assistant", "content": "yes"})
        self.leave(terminal)

    def test_figures_on_a_line_of_their_own(self):
        def answer(handler, _):
            handler.begin_stream()
            for _ in range(5):
                handler.put(data(delta("x ")))
                time.sleep(0.1)
            handler.put(stream("end", usage={"prompt_tokens": 9, "completion_tokens": 7,
                                             "prompt_tokens_details": {"cached_tokens": 8}}))

        self.server.answer = answer
        terminal = self.open()
        self.asks(terminal, "hi\r", "hi")
        rate = terminal.wait_for(r"end\n\[9 prompt tokens \(8 cached\), 7 generated, (\d+\.\d) tok/s, "
                                 r"first after \d+\.\d\d s\]\n> ").group(1)
        self.assertLess(float(rate), 12.1)  # six in at least half a second
        terminal.type("/stats off\r")
        terminal.wait_for("figures are not shown")
        mark = terminal.mark()
        self.asks(terminal, "hi\r", "hi")
        self.assertNotIn("tok/s", terminal.text(mark))
        self.leave(terminal)

    def test_answers_into_a_file_and_prompts_on_the_terminal(self):
        path = self.folder / "out"
        with open(path, "wb") as out:
            terminal = self.open(stdout=out.fileno())
            self.asks(terminal, "hi 東\x7f\r", "hi ")
            self.leave(terminal)
        self.assertEqual(path.read_text(), "You said: hi \n")
        self.assertNotIn("You said", terminal.text())

    # ---- commands

    def say(self, terminal, keys, pattern):
        mark = terminal.mark()
        terminal.type(keys)
        return terminal.wait_for(pattern + r"(.|\n)*\n> $", mark)

    def test_commands(self):
        terminal = self.open()
        self.say(terminal, "/help\r", "/clear +forget the conversation")
        self.say(terminal, "/nonsense\r", "there is no command '/nonsense'; /help lists them. "
                 "A message that begins with a slash: double it.")
        self.asks(terminal, "//etc/passwd is what?\r", "/etc/passwd is what?")
        self.say(terminal, "/system\r", "there is no system message")
        self.say(terminal, "/system Be brief, 東.\r", "the system message is set")
        self.asks(terminal, "one\r", "one")
        self.assertEqual(self.server.posts()[-1]["messages"][0], {"role": "system", "content": "Be brief, 東."})
        self.say(terminal, "/clear\r", "the conversation is forgotten")
        self.asks(terminal, "two\r", "two")
        self.assertEqual([m["content"] for m in self.server.posts()[-1]["messages"]], ["Be brief, 東.", "two"])
        self.say(terminal, "/system -\r", "the system message is removed")
        self.say(terminal, "/set temperature 0.25\r", "settings: temperature 0.25")
        self.say(terminal, "/set parameter seed 9\r", "settings: seed 9, temperature 0.25")
        self.say(terminal, "/set temperature hot\r", "temperature must be a number, not 'hot'")
        self.say(terminal, "/set heat 1\r", "there is no setting 'heat'; there are temperature, top_p")
        self.say(terminal, "/set seed default\r", "settings: temperature 0.25")
        self.server.models = ("alpha", "beta")
        self.say(terminal, "/model\r", "  alpha\n  beta")
        self.say(terminal, "/model beta\r", "model: beta")
        self.asks(terminal, "/retry\r", "two")
        body = self.server.posts()[-1]
        self.assertEqual((body["model"], body["temperature"], len(body["messages"])), ("beta", 0.25, 1))
        self.say(terminal, "/history\r", "## User\n\ntwo\n\n## Assistant\n\nYou said: two")
        self.leave(terminal)

    def test_saving(self):
        terminal = self.open()
        self.say(terminal, "/save x\r", "nothing was said yet")
        self.say(terminal, "/save\r", "/save needs a file's name")
        self.asks(terminal, "one 東\r", "one 東")
        path = self.folder / "talk.json"
        self.say(terminal, f"/save {path}\r", "1 question and answers? in ")
        self.assertEqual(json.loads(path.read_text()), {"messages": [
            {"role": "user", "content": "one 東"}, {"role": "assistant", "content": "You said: one 東"}]})
        self.asks(terminal, "two\r", "two")
        self.say(terminal, f"/save {path}\r", "2 questions and answers in ")
        self.say(terminal, "/save ~/talk.md\r", "2 questions and answers in ")
        self.assertEqual((self.folder / "talk.md").read_text(),
                         "## User\n\none 東\n\n## Assistant\n\nYou said: one 東\n\n## User\n\ntwo\n\n## Assistant\n\nYou said: two\n")
        other = self.folder / "precious"
        other.write_text("keep me")
        self.say(terminal, f"/save {other}\r", "exists; name another file")
        self.assertEqual(other.read_text(), "keep me")
        self.say(terminal, "/save /nonexistent/x\r", "cannot create a file beside /nonexistent/x")
        self.leave(terminal)


class Real(unittest.TestCase):
    def test_ctrl_c_frees_a_real_server(self):
        with Server(TINY_DENSE, workers=2) as server, tempfile.TemporaryDirectory() as folder:
            with Terminal([SHOAL, "chat", "--url", server.client.url, "--set", "ignore_eos=true"],
                          env={"XDG_STATE_HOME": folder}) as terminal:
                terminal.wait_for(r"\n> $")
                for turn in range(2):
                    mark = terminal.mark()
                    terminal.type(f"Tell me story {turn}.\r")
                    terminal.wait_for(rf"story {turn}\.\n[^>]{{20}}", mark)
                    terminal.type(CTRL_C)
                    terminal.wait_for(r"\n\[stopped\]\n> $", mark)
                terminal.type("/set max_tokens 8\r")
                terminal.wait_for(r"settings: .*max_tokens 8.*\n> $")
                mark = terminal.mark()
                terminal.type("And now?\r")
                terminal.wait_for(r"the answer is cut off: it reached max_tokens.*\n"
                                  r"\[\d+ prompt tokens.*8 generated, .*tok/s, first after", mark)
                terminal.type(CTRL_D)
                self.assertEqual(terminal.wait(), 0)


if __name__ == "__main__":
    main()
