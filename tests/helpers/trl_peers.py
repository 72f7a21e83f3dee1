"""A small published chat model for TRL and for us, and TRL's trainers on it, for the losses that these compute.

Everything is in double precision: where TRL asks for single, `in_double` (tests/pretrained/published.py) gives double.
TRL is imported where a trainer is made, because it takes seconds.
"""

from functools import cached_property

import pytest
import torch
import transformers
from pretrained.published import in_double, placed, random_weights
from small_chats import json_tokenizer

from tinygrad_lm.posttrain.chat.load import load_chat
from tinygrad_lm.testing.checks import agree

SPECIAL = ("<|endoftext|>", "<|bos|>", "<|start|>", "<|message|>", "<|end|>", "<|pad|>")
NAMED = {"bos_token": "<|bos|>", "eos_token": "<|end|>"}
# {% generation %} marks what assistant_only_loss learns; after an answer's end comes `after`.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start|>' + message['role'] + '<|message|>' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|end|>' }}{% endif %}{{ AFTER }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant<|message|>' }}{% endif %}"
)
SIZES = {
    "gpt2": {"n_positions": 64, "n_layer": 2, "n_head": 2, "n_embd": 8}
    | dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    "llama": {"max_position_embeddings": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8}
    | {"num_key_value_heads": 1, "intermediate_size": 9},
}
CONFIGS = {"gpt2": transformers.GPT2Config, "llama": transformers.LlamaConfig}


class Published:
    """Two models of one shape in folders as transformers writes them: `reference`, and `policy` not far from it.

    after: what the template writes after each message's end; pad: the tokenizer's padding, or None
    """

    def __init__(self, folder, family, after="", pad="<|pad|>"):
        settings = (
            NAMED | {"chat_template": TEMPLATE.replace("AFTER", repr(after))} | ({"pad_token": pad} if pad else {})
        )
        self.folder = folder
        for name in ("reference", "policy"):
            (folder / name).mkdir()
            vocabulary = json_tokenizer(folder / name, SPECIAL, settings=settings).vocab_size
        config = CONFIGS[family](vocab_size=vocabulary, bos_token_id=1, eos_token_id=4, **SIZES[family])
        with in_double():
            model = random_weights(transformers.AutoModelForCausalLM.from_config(config), 3).double()
            model.save_pretrained(folder / "reference")
            for p in model.parameters():
                p.data += 0.02 * torch.randn_like(p)
            model.save_pretrained(folder / "policy")

    def ours(self, name="policy"):
        return load_chat(self.folder / name, "cpu", "float64")[0]

    def theirs(self, name="policy", kind=transformers.AutoModelForCausalLM, **settings):
        with in_double():
            return kind.from_pretrained(self.folder / name, dtype=torch.float64, **settings)

    @cached_property
    def chat(self):
        return load_chat(self.folder / "policy", "cpu", "float64")[1]

    @property
    def tokenizer(self):
        return transformers.AutoTokenizer.from_pretrained(self.folder / "policy")

    def trainer(self, kind, data, settings=(), model=None, **more):
        """A trainer of TRL by its name without Trainer. settings: of its config, more: its other arguments."""
        import trl
        from datasets import Dataset, disable_progress_bars

        disable_progress_bars()
        config = getattr(trl, f"{kind}Config")(
            output_dir=str(self.folder / "run"), use_cpu=True, bf16=False, activation_checkpointing=False,
            disable_tqdm=True, report_to="none", **dict(settings),
        )  # fmt: skip
        with in_double(), pytest.MonkeyPatch.context() as patch:
            patch.setenv("CI", "1")  # no telemetry
            trainer = getattr(trl, f"{kind}Trainer")(
                model or self.theirs(), args=config, train_dataset=Dataset.from_list(data),
                processing_class=self.tokenizer, **more,
            )  # fmt: skip
        trainer.model.train()
        return trainer


def loss_and_gradients(trainer, batch, **more):
    """What a trainer's compute_loss gives for a batch: a number, and {name of transformers: gradient}."""
    trainer.model.zero_grad()
    with in_double():
        loss = trainer.compute_loss(trainer.model, dict(batch), **more)
        loss.backward()
    return loss.item(), {name: p.grad.numpy().copy() for name, p in trainer.model.named_parameters()}


def our_loss_and_gradients(model, loss):
    """The same of a loss of ours."""
    model.flat.zero_grad()
    loss.backward()
    return loss.item(), placed(model, {name: p.grad for name, p in model.flat.items()})


def agree_on(found, expected):
    """Loss and gradients, to twelve digits."""
    agree(found[0], expected[0], "loss")
    assert found[1].keys() == expected[1].keys()
    for name in expected[1]:
        agree(found[1][name], expected[1][name], f"gradient of {name}")
