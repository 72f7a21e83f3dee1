"""Names become folders: what is downloaded, what survives an interruption, the messages without a network."""

import io
import sys
import urllib.error
import urllib.request
from fnmatch import fnmatch

import pytest
from pretrained.make_tf_fixtures import FOLDER

from tinygrad_lm.errors import CheckpointError, DataError
from tinygrad_lm.pretrained import hub
from tinygrad_lm.pretrained.hub import FILES, OPENAI, from_hub, from_openai

huggingface_hub = pytest.importorskip("huggingface_hub")
DATA = FILES[-1]


@pytest.mark.parametrize(
    ("name", "repository"),
    [("gpt2", "openai-community/gpt2"), ("gpt2-xl", "openai-community/gpt2-xl"), ("Qwen/Qwen3", "Qwen/Qwen3")],
)
def test_only_weights_and_words_are_asked_for(name, repository, monkeypatch, tmp_path):
    asked = []

    def snapshot(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert from_hub(name) == tmp_path
    ((found, patterns),) = asked
    assert found == repository
    wanted = ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json"]
    wanted += ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"]
    unwanted = [
        "pytorch_model.bin",
        "tf_model.h5",
        "original/consolidated.00.pth",
        "modeling_x.py",
        "flax_model.msgpack",
    ]
    assert all(any(fnmatch(file, pattern) for pattern in patterns) for file in wanted)
    assert not any(fnmatch(file, pattern) for pattern in patterns for file in unwanted)


def test_offline_the_hub_s_error_says_what_to_do(tmp_path, monkeypatch):
    """With the hub's own code, which is offline here."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError) as caught:
        from_hub("some/model")
    for fragment in (
        "model some/model: there is no such folder",
        "some/model cannot be downloaded from the hub",
        "HF_HOME",
        str(tmp_path),
    ):
        assert fragment in str(caught.value)
    assert "config.json, the .safetensors files" in str(caught.value)


def test_without_the_hub_s_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match=r"pip install 'tinygrad-lm\[weights\]'"):
        from_hub("gpt2")


# OpenAI's address


class Server:
    """Serves files by their names, the first `breaks` answers cut in half."""

    def __init__(self, files, breaks=0, ranges=True):
        self.files, self.breaks, self.ranges, self.requests = files, breaks, ranges, []

    def __call__(self, request, timeout):
        url, header = request.full_url, request.headers.get("Range")
        assert url.startswith(f"{OPENAI}124M/")
        name = url.removeprefix(f"{OPENAI}124M/")
        self.requests.append((name, header))
        start = int(header.removeprefix("bytes=").removesuffix("-")) if header and self.ranges else 0
        content = self.files[name][start:]
        if header and not content:
            raise urllib.error.HTTPError(url, 416, "Range Not Satisfiable", {}, None)
        answer = io.BytesIO(content)
        if self.breaks and name == DATA:
            self.breaks -= 1
            answer = io.BytesIO(content[: len(content) // 2])
        answer.length = len(content)
        answer.status = 206 if header and self.ranges else 200
        return answer


@pytest.fixture
def files():
    contents = dict.fromkeys(FILES, b"{}")
    return contents | {path.name: path.read_bytes() for path in (FOLDER / "gpt2").iterdir() if path.name in FILES}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "cache_folder", lambda: tmp_path)
    return tmp_path / "gpt-2"


def serve(monkeypatch, files, **how):
    server = Server(files, **how)
    monkeypatch.setattr(urllib.request, "urlopen", server)
    return server


def test_a_model_is_fetched_once(cache, files, monkeypatch):
    server = serve(monkeypatch, files)
    folder = from_openai("124M")
    assert folder == cache / "124M"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert [name for name, _ in server.requests] == list(FILES)
    assert from_openai("124M") == folder
    assert len(server.requests) == len(FILES)
    assert [path.name for path in cache.iterdir()] == ["124M"]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(cache, files, monkeypatch, ranges):
    server = serve(monkeypatch, files, breaks=2, ranges=ranges)
    for _ in range(2):
        with pytest.raises(DataError, match=rf"received \d+ of {len(files[DATA])} bytes; try again to resume"):
            from_openai("124M")
        assert not (cache / "124M").exists()
    folder = from_openai("124M")
    assert (folder / DATA).read_bytes() == files[DATA]
    names = [name for name, _ in server.requests]
    assert [names.count(name) for name in FILES] == [1] * (len(FILES) - 1) + [3]
    half = len(files[DATA]) // 2
    assert server.requests[-2][1] == f"bytes={half}-"
    assert not list(folder.glob("*.part"))


def test_damage_on_the_way_is_noticed_and_removed(cache, files, monkeypatch):
    damaged = bytearray(files[DATA])
    damaged[100] ^= 1
    serve(monkeypatch, files | {DATA: bytes(damaged)})
    with pytest.raises(DataError, match="the download is damaged and was removed; try again"):
        from_openai("124M")
    assert not list(cache.iterdir())
    serve(monkeypatch, files)
    from_openai("124M")


def test_a_part_that_is_longer_than_the_file(cache, files, monkeypatch):
    serve(monkeypatch, files)
    (cache / "124M.partial").mkdir(parents=True)
    (cache / "124M.partial" / f"{DATA}.part").write_bytes(files[DATA] + b"more")
    with pytest.raises(DataError, match="did not match and was removed; try again"):
        from_openai("124M")
    from_openai("124M")


def test_offline_openai_s_error_says_which_files_go_where(cache, monkeypatch):
    def refuse(request, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(DataError) as caught:
        from_openai("124M")
    for fragment in ("model openai:124M: ", "Name or service not known", *FILES, f"{OPENAI}124M/", str(cache / "124M")):
        assert fragment in str(caught.value)


def test_an_answer_that_is_no_file(cache, monkeypatch):
    def missing(request, timeout):
        raise urllib.error.HTTPError(request.full_url, 404, "Not Found", {}, None)

    monkeypatch.setattr(urllib.request, "urlopen", missing)
    with pytest.raises(DataError, match=r"hparams.json: HTTP Error 404: Not Found"):
        from_openai("124M")


def test_another_size():
    with pytest.raises(DataError, match="model openai:125M is unknown; expected openai: and one of 124M, 355M"):
        from_openai("125M")


def test_nothing_is_fetched_that_could_not_be_verified(cache, monkeypatch, files):
    server = serve(monkeypatch, files)
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    with pytest.raises(CheckpointError, match=r"pip install 'tinygrad-lm\[weights\]'"):
        from_openai("124M")
    assert not server.requests
