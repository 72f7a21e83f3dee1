"""A small chat model on a server of its own."""

import json
import threading
from contextlib import contextmanager
from http.client import HTTPConnection

from small_chats import tokenizer_named, turns
from small_gpt import shaken, tiny

from tinygrad_lm.posttrain.chat.chat import Chat
from tinygrad_lm.serve.line import Line
from tinygrad_lm.serve.server import Server
from tinygrad_lm.serve.service import Service
from tinygrad_lm.train.config import TrainConfig
from tinygrad_lm.train.run import RunFolder


def small_service(tokenizer="byte", size=64, preset="modern-tiny", **options):
    """A Service of a model of random weights, in float32."""
    chat = Chat(tokenizer_named(tokenizer))
    model = shaken(tiny(preset, vocab_size=chat.vocab_size, block_size=size), dtype="float32")
    return Service(model, chat, "small", line=Line(2), **options)


@contextmanager
def serving(service):
    """Within the block the service is on the yielded Server."""
    with Server(service) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, method, path, content=None, **headers):
    """(status, the JSON or text that was answered, headers). content: what JSON can hold, or bytes."""
    body = content if isinstance(content, bytes) or content is None else json.dumps(content).encode()
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    try:
        given = {"Content-Type": "application/json"} if method == "POST" else {}
        connection.request(method, path, body, given | headers)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    is_json = answer.headers.get_content_type() == "application/json"
    return answer.status, json.loads(text) if is_json else text, answer.headers


def post(server, path, **content):
    """What a request that succeeds is answered."""
    status, answer, _ = ask(server, "POST", path, content)
    assert status == 200, answer
    return answer


def events(server, path, **content):
    """The events of a stream."""
    text = post(server, path, stream=True, **content)
    *lines, last, _ = text.split("\n\n")
    assert last == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def chat(server, *texts, **content):
    """The answer to a conversation of user and assistant in turn."""
    return post(server, "/v1/chat/completions", messages=turns(*texts), **content)


def make_run(folder, block_size=64, trained=True):
    """The folder of a run with random weights, which draws almost evenly among 256 bytes."""
    tokenizer = tokenizer_named("byte")
    chat = Chat(tokenizer)
    config = tiny("modern-tiny", vocab_size=chat.vocab_size if trained else 256, block_size=block_size)
    others = {"chat": chat.to_dict()} if trained else {}
    run = RunFolder.create(
        folder, config, TrainConfig(1, 1), tokenizer, dtype="float32", start=0, title="", shares=1, levels={}, **others
    )
    model = run.initial_model("cpu")
    run.write_checkpoint({"model": {name: p.data for name, p in model.flat.items()}}, 1)
    return folder
