import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.qwen3_5 import Qwen3_5ForConditionalGeneration

from qwen_vla_ros.checkpoint.published import find_published, read_published_config
from qwen_vla_ros.checkpoint.weights import fresh_model
from qwen_vla_ros.errors import CheckpointError
from qwen_vla_ros.model.family import plain

COMMIT = "5" * 40
HUB_ID = "Qwen/Qwen3.5-Tiny"


@pytest.fixture
def config(tiny):
    return tiny.manifest.model


def edit_config(folder, change):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_every_weight_is_the_one_that_transformers_reads(published, config):
    ours = fresh_model(config, 0, published, dtype=torch.bfloat16).backbone
    theirs = Qwen3_5ForConditionalGeneration.from_pretrained(published, dtype=torch.bfloat16)
    expected = dict(theirs.named_parameters())
    found = dict(ours.named_parameters())
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        assert torch.equal(weight.float(), expected[name].float()), name


def test_weights_of_a_draft_head_are_left_alone(published, config):
    save_file({"mtp.fc.weight": torch.ones(2, 2)}, published / "model-draft.safetensors")
    names = [name for name, _ in fresh_model(config, 0, published).named_parameters()]
    assert not any("mtp" in name for name in names)


@pytest.mark.slow
def test_a_published_model_in_one_file_is_read_too(published, config, tmp_path):
    single = tmp_path / "single"
    model = Qwen3_5ForConditionalGeneration.from_pretrained(published, dtype=torch.bfloat16)
    model.save_pretrained(single)
    one, several = (fresh_model(config, 0, folder) for folder in (single, published))
    assert all(
        torch.equal(a, b) for a, b in zip(one.parameters(), several.parameters(), strict=True)
    )


def test_a_missing_weight_is_named(published, config):
    index = json.loads((published / "model.safetensors.index.json").read_text())
    name = "model.visual.pos_embed.weight"
    path = published / index["weight_map"].pop(name)
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path)
    (published / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=f"no file there has the weight '{name}'"):
        fresh_model(config, 0, published)


def test_a_weight_of_another_shape_is_named(published, config):
    name = "model.visual.pos_embed.weight"
    index = json.loads((published / "model.safetensors.index.json").read_text())
    path = published / index["weight_map"][name]
    tensors = load_file(path)
    save_file({**tensors, name: tensors[name][:1].clone()}, path)
    with pytest.raises(CheckpointError, match=rf"'{name}' has shape \[1, 64\]; .* \[16, 64\]"):
        fresh_model(config, 0, published)


def test_a_published_folder_is_read_as_it_is(published, config):
    found, file = (
        read_published_config(published),
        json.loads((published / "config.json").read_text()),
    )
    assert plain(found)["text_config"]["rope_parameters"] == file["text_config"]["rope_parameters"]
    assert found.text_config.hidden_size == config.backbone.text_config.hidden_size
    assert found.architectures == ["Qwen3_5ForConditionalGeneration"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_type": "qwen2_vl"}, "model_type is 'qwen2_vl'; only 'qwen3_5'"),
        ({"auto_map": {"AutoModel": "modeling.Evil"}}, "auto_map: asks for code of its own"),
        ({"text_config": {"hidden_size": "wide"}}, "text_config.vocab_size is missing"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False; allowed: True"),
    ],
)
def test_a_config_that_is_not_the_familys_is_refused_with_its_file(published, change, sentence):
    edit_config(published, lambda content: content.update(change))
    with pytest.raises(CheckpointError, match=rf"config\.json: {sentence}"):
        read_published_config(published)


def test_a_folder_is_found(published):
    assert find_published(str(published)).directory == published
    assert find_published(str(published)).name == "Qwen3.5-Tiny"


@pytest.mark.parametrize(
    ("where", "revision", "sentence"),
    [
        ("/no/such/folder", "", "no such folder, and it is no id"),
        ("../folder", COMMIT, "no such folder, and it is no id"),
        (HUB_ID, "", r"pin what is fetched: --revision and the 40 digits of a commit\."),
        (HUB_ID, "main", "the 40 digits of a commit, not 'main'"),
    ],
)
def test_what_is_neither_a_folder_nor_pinned_is_refused(where, revision, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        find_published(where, revision)


class Hub(BaseHTTPRequestHandler):
    """A model hub with one model, which brings more files than anybody should want."""

    files: ClassVar = {
        "config.json": b"{}",
        "tokenizer.json": b"{}",
        "model.safetensors": b"weights",
        "pytorch_model.bin": b"pickle",
        "modeling_qwen.py": b"code",
    }
    asked: ClassVar[list[str]]

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body):
        path = self.path.partition("?")[0]
        if path.endswith(f"/tree/{COMMIT}"):
            listing = [
                {"type": "file", "path": name, "size": len(data), "oid": "a" * 40}
                for name, data in self.files.items()
            ]
            data = json.dumps(listing).encode()
        elif f"/resolve/{COMMIT}/" in path:
            name = path.rpartition("/")[2]
            self.asked.append(name)
            data = self.files[name]
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{path.rpartition("/")[2]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, *_args):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Run a model hub on this machine, with an empty cache; yields what was asked for."""
    monkeypatch.setattr(Hub, "asked", [], raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    constants = huggingface_hub.constants
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield Hub.asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_only_weights_and_words_are_fetched_from_the_hub(hub):
    found = find_published(HUB_ID, COMMIT)
    wanted = {"config.json", "tokenizer.json", "model.safetensors"}
    assert {path.name for path in found.directory.iterdir()} == wanted
    assert set(hub) == wanted
    assert found.name == f"{HUB_ID} at {COMMIT}"


def test_what_was_fetched_once_needs_no_network(hub):
    first = find_published(HUB_ID, COMMIT)
    hub.clear()
    assert find_published(HUB_ID, COMMIT) == first
    assert hub == []


def test_a_machine_without_a_network_is_told_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"cannot be fetched.* name a folder that holds it"):
        find_published(HUB_ID, COMMIT)
