"""Serve a model on this machine: a page to talk to it and to look into it, and OpenAI's interface for other programs.

python -m tinygrad_lm.serve runs/...
python -m tinygrad_lm.serve owner/name --port 8001

Then open http://127.0.0.1:8000, or give http://127.0.0.1:8000/v1 to a client as its base URL, with any key.
"""

import argparse
import ipaddress
import sys
from pathlib import Path

from tinygrad_lm.errors import ConfigError, check_ranges
from tinygrad_lm.kernels.cuda.errors import explained
from tinygrad_lm.posttrain.chat.load import find_chat, load_chat
from tinygrad_lm.programs import program
from tinygrad_lm.serve.line import Line
from tinygrad_lm.serve.server import Server
from tinygrad_lm.serve.service import Service

OPTIONS = {
    "--port": {"type": int, "default": 8000, "help": "0 takes a free one [8000]"},
    "--host": {"metavar": "ADDRESS", "default": "127.0.0.1", "help": "where to listen [127.0.0.1, this machine alone]"},
    "--public": {"action": "store_true", "help": "allow a --host that other machines can reach"},
    "--tokens": {"type": int, "metavar": "N", "default": 2048, "help": "the longest answer [2048]"},
    "--waiting": {"type": int, "metavar": "N", "default": 8, "help": "requests that may wait for the model [8]"},
    "--device": {"choices": ["auto", "cpu", "cuda"], "default": "auto", "help": "[auto]"},
}


@program
def main(arguments=None):
    parser = argparse.ArgumentParser("python -m tinygrad_lm.serve", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("model", metavar="MODEL", help="the folder of a run, of a model, or a name")
    for name, option in OPTIONS.items():
        parser.add_argument(name, **option)
    args = parser.parse_args(arguments)
    ranges = {
        "--port": (args.port, "from 0 to 65535", 0 <= args.port < 2**16),
        "--tokens": (args.tokens, "at least 1", args.tokens >= 1),
        "--waiting": (args.waiting, "at least 0", args.waiting >= 0),
    }
    check_ranges("serve", ranges)
    check_host(args.host, args.public)
    with explained("fewer --tokens"):
        model, chat = load_chat(args.model, args.device)
    name = Path(args.model).resolve().name if Path(args.model).exists() else args.model
    trained = find_chat(args.model, chat.tokenizer) is not None
    service = Service(model, chat, name, trained, args.tokens, Line(args.waiting))
    with listening(service, args.host, args.port) as server:
        print(f"{name}: {model.flat.data.size:,} parameters, a context of {model.config.block_size} tokens")
        print(f"Open {server.url} in a browser; Ctrl-C ends.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nGoodbye.")


def listening(service, host, port):
    """The Server. ConfigError if it cannot listen there."""
    try:
        return Server(service, host, port)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"serve: cannot listen on {host}, port {port}: {reason}; choose another --port") from error


def check_host(host, public):
    """Refuse an address that others can reach unless that is wanted; warn if it is."""
    if is_loopback(host):
        return
    if not public:
        raise ConfigError(
            f"serve: --host {host} can be reached from other machines, and whoever reaches it can use the model\n"
            "  hint : leave --host out, or add --public if that is what you want"
        )
    print(f"warning: {host} can be reached from other machines; there is no password, no encryption", file=sys.stderr)


def is_loopback(host):
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
