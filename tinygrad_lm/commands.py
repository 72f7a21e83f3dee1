"""The programs by name: the commands of `tinygrad-lm`, where each stands, and how a user starts it from here."""

import os
import sys
from pathlib import Path
from shlex import quote

COMMAND = "tinygrad-lm"
PACKAGE = Path(__file__).parent
INSTALLED = (PACKAGE / "examples").is_dir()  # from a wheel, which carries the examples in the package
EXAMPLES = PACKAGE / "examples" if INSTALLED else PACKAGE.parent / "examples"

# {command: program}: what follows "python" in a clone, a file or a module, and words before the user's arguments.
COMMANDS = {
    "train": "examples/pretrain_shakespeare.py",
    "pretrain": "examples/pretrain.py",
    "generate": "examples/generate.py",
    "chat": "examples/chat.py",
    "serve": "-m tinygrad_lm.serve",
    "finetune": "examples/finetune_shakespeare.py",
    "finetune-chat": "examples/finetune_chat.py",
    "prefer": "examples/prefer.py",
    "reinforce": "examples/reinforce.py",
    "assistant": "examples/from_text_to_assistant.py",
    "evaluate": "-m tinygrad_lm.evaluate",
    "export": "examples/export.py",
    "data": "-m tinygrad_lm.data",
    "prepare": "-m tinygrad_lm.data prepare",
    "learn": "-m tinygrad_lm.learn",
    "doctor": "-m tinygrad_lm.learn doctor",
    "check-gradients": "examples/check_gradients.py",
    "distributed": "-m tinygrad_lm.distributed",
}
DESCRIBED = {"prepare": "curate/prepare.py", "doctor": "learn/doctor/doctor.py"}  # in other files than their program's


def spelled(program):
    """How the user starts a program: in a clone "python examples/chat.py", by its path from the current folder; where
    the package was installed from a wheel, or the running program was started so, "tinygrad-lm chat"."""
    name = next((name for name in COMMANDS if COMMANDS[name] == program), None)
    if name and (INSTALLED or sys.argv[0].startswith(f"{COMMAND} ")):
        return f"{COMMAND} {name}"
    file = EXAMPLES.parent / program
    return f"python {quote(os.path.relpath(file)) if file.is_file() else program}"


def file_of(name):
    """The path of the file whose docstring describes a command."""
    program = COMMANDS[name]
    if program.endswith(".py"):
        return EXAMPLES.parent / program
    return PACKAGE / DESCRIBED.get(name, f"{program.removeprefix('-m tinygrad_lm.')}/__main__.py")
