"""examples/chat.py: a conversation in the terminal."""

import builtins

import pytest
from small_run import example, status
from small_service import make_run


@pytest.fixture
def talk(run, monkeypatch, capsys):
    """A function that types lines, the last of which may be an exception; it returns what was printed, in parts."""

    def talk(*lines, options=("--tokens", 6), folder=run):
        program, typed = example("chat"), iter(lines)

        def answer(prompt):
            line = next(typed, EOFError())
            print("@", end="")
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr(builtins, "input", answer)
        assert status(program.main, folder, *options) == 0
        return capsys.readouterr().out.split("@")

    return talk


def test_it_answers_and_ends_with_its_input(talk):
    greeting, answer, goodbye = talk("hello")
    assert "a context of 64 tokens" in greeting
    assert "not trained to chat" not in greeting
    assert "(cut off after 6 tokens)" in answer
    assert goodbye == "\nGoodbye.\n"


def test_the_same_seed_gives_the_same_answers_and_another_turn_another(talk):
    first = talk("hello", "/reset", "hello", "/reset", "hello")
    answers = [first[i] for i in (1, 3, 5)]
    assert len(set(answers)) == 3
    assert talk("hello", "/reset", "hello", "/reset", "hello") == first
    assert talk("hello", options=["--tokens", 6, "--seed", 1])[1] not in answers
    likeliest = talk("hello", "/reset", "hello", options=["--tokens", 6, "--temperature", 0])
    assert likeliest[1] == likeliest[3]


@pytest.fixture
def conversation(run, monkeypatch):
    """A Conversation, and the prompts that it gives to the model, of which it knows the answers."""
    program = example("chat")
    model, chat = program.load_chat(run, "cpu")

    def give(model, prompt, n, *arguments, **options):
        seen.append(bytes(i if i < 256 else ord("|") for i in prompt).decode())
        return iter([*b"ok", chat.end][:n])

    seen = []
    monkeypatch.setattr(program, "generate", give)
    args = type("", (), {"seed": 0, "tokens": 20, "system": "", "temperature": 1.0, "top_p": 1.0})
    return program.Conversation(model, chat, args), seen


def test_what_was_said_is_part_of_the_next_prompt(conversation, capsys):
    it, seen = conversation
    it.answer("one")
    it.answer("two")
    it.command("/system", "short")
    it.command("/reset")
    it.answer("three")
    it.command("/system")
    it.answer("four")
    assert seen == ["||one||", "||one||ok||two||", "||short||three||", "||three||ok||four||"]
    assert capsys.readouterr().out == "ok\n" * 4


def test_the_oldest_turns_make_room_and_it_is_said(conversation, capsys):
    it, seen = conversation
    it.system = "S"
    for text in ("a" * 12, "b" * 12, "c" * 12):
        it.answer(text)
    assert [len(prompt) for prompt in seen] == [19, 37, 37]  # of three turns the first does not fit any more
    assert seen[-1] == f"||S||{'b' * 12}||ok||{'c' * 12}||"
    assert capsys.readouterr().out == "ok\nok\n(the context is full: the oldest 2 messages are forgotten)\nok\n"
    with pytest.raises(ValueError, match=r"it has 48 tokens, and the model's context of 64 has room for 44"):
        it.answer("d" * 41)
    it.answer("c" * 12)  # the message that was too long is not part of the conversation
    assert "d" not in seen[-1]


def test_an_answer_never_outgrows_the_context(talk):
    assert "(cut off after 32 tokens)" in talk("x" * 28, options=["--tokens", 999, "--seed", 2])[1]


def test_commands(talk):
    parts = talk("/temperature 0", "a", "/reset", "a", "/system", "/system be kind", "  ", "/quit", "not read")
    assert [part for part in parts if "answer" in part] == []
    assert parts[1] == "The temperature is now 0.\n"
    assert parts[2] == parts[4]
    assert parts[3] == "The conversation is forgotten.\n"
    assert parts[5:7] == ["There are no instructions now.\n", "The instructions are now: be kind\n"]
    assert parts[7:] == ["", ""]  # the empty line is asked for again, and /quit ends


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/temperature", "/temperature needs a number, such as 0.7; found ''"),
        ("/temperature warm", "/temperature needs a number, such as 0.7; found 'warm'"),
        ("/temperature -1", "sampling: temperature must be at least 0, found -1.0"),
        ("/help", "/help is not a command; there are /system TEXT, /temperature X, /reset, /quit"),
        ("x" * 80, "the message is too long: with its template it has 84 tokens"),
        ("\ud800", "half a surrogate pair"),
    ],
)
def test_a_wrong_line_is_reported_and_the_conversation_continues(line, message, talk):
    parts = talk(line, "hello")
    assert parts[1].startswith("error: ")
    assert message in parts[1]
    assert "cut off after 6" in parts[2]


def test_ctrl_c_at_the_prompt_ends_politely(talk):
    assert talk(KeyboardInterrupt())[1] == "\nGoodbye.\n"


def test_ctrl_c_stops_an_answer_and_keeps_what_was_said(conversation, monkeypatch, capsys):
    it, _ = conversation
    it.answer("one")

    def interrupted(*arguments, **options):
        yield from b"half"
        raise KeyboardInterrupt

    monkeypatch.setattr(type(it), "draw", lambda self, prompt, n, ids: (ids.append(i) or i for i in interrupted()))
    it.answer("two")
    assert capsys.readouterr().out == "ok\nhalf\n(stopped)\n"
    assert [message["content"] for message in it.messages] == ["one", "ok", "two", "half"]


def test_a_model_that_has_not_learnt_to_chat_is_said_to_be_one(talk, tmp_path):
    greeting, answer, _ = talk("hello", folder=make_run(tmp_path / "base", trained=False))
    assert "not trained to chat" in greeting
    assert answer


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--tokens", 0], "--tokens must be at least 1"), (["--top-p", 2], "top_p must be above 0 and at most 1")],
)
def test_wrong_options(options, message, capsys):
    assert status(example("chat").main, "nowhere", *options) == 2
    assert message in capsys.readouterr().err
