"""Language modelling: a small GPT that learns to continue a text, byte by byte.

Shapes: B batch, T bytes of context, H heads, W width; tokens are bytes, (B, T) int64 in [0, 256).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn
from torch.utils.data import Dataset

from crown_exp import Config, Run


def train(
    run: Run,
    model: Config[GPT],
    dataset: Config[bytes],
    optimizer: Config[torch.optim.Optimizer],
    lr_schedule: Config[torch.optim.lr_scheduler.LRScheduler],
    *,
    batch_size: Annotated[int, Gt(0)] = 16,
    steps: Annotated[int, Gt(0)] = 1000,
    evaluate_every: str = "200 steps",
    sample_length: Annotated[int, Ge(0)] = 400,
) -> dict[str, float]:
    """Minimise the cross-entropy of the next byte; tell it in nats per byte of text that was held out."""
    net = run.build(model)
    opt = run.build(optimizer, params=decay_groups(net))
    schedule = run.build(lr_schedule, optimizer=opt)
    run.track(net=net, opt=opt, schedule=schedule)
    train_text, test_text = run.build(dataset, split="train"), run.build(dataset, split="test")
    train_set = run.batches(Windows(train_text, net.context), batch_size=batch_size)
    test_windows = Windows(test_text, net.context, stride=net.context)
    test_set = run.batches(test_windows, batch_size=64, train=False)
    for batch in run.steps(train_set, steps):
        if run.every(evaluate_every):
            run.log(test_loss=evaluate(net, test_set))
            run.artifact("sample.txt", sample(net, sample_length, run.seed))
        mean = torch.zeros((), device=run.device)
        for inputs, targets in run.split(batch):
            loss = cross_entropy(net(inputs), targets)
            run.backward(loss)
            mean += loss.detach() * len(inputs) / batch_size
        run.update(opt, clip=1.0)
        schedule.step()
        run.log(loss=mean)
    run.artifact("sample.txt", sample(net, sample_length, run.seed))
    final, baseline = evaluate(net, test_set), unigram_entropy(train_text, test_text)
    return {"loss": final, "unigram_entropy": baseline, "ratio": final / baseline}


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over all bytes of all windows, in nats: (B, T, 256), (B, T) → ()."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@torch.no_grad()
def evaluate(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The loss over all windows, in nats per byte."""
    net.eval()
    total = windows = 0.0
    for inputs, targets in batches:
        total += float(cross_entropy(net(inputs), targets)) * len(inputs)
        windows += len(inputs)
    net.train()
    return total / windows


@torch.no_grad()
def sample(net: GPT, length: int, seed: int, prompt: str = "The ") -> str:
    """A text that the model makes up; its chances are its own, so that training goes on as without it."""
    net.eval()
    chances = torch.Generator().manual_seed(seed)
    text = list(prompt.encode())
    for _ in range(length):
        seen = torch.tensor([text[-net.context :]], device=net.tokens.weight.device)
        likely = net(seen)[0, -1].float().softmax(dim=0).cpu()
        text.append(int(torch.multinomial(likely, 1, generator=chances)))
    net.train()
    return bytes(text).decode(errors="replace")


def unigram_entropy(train_text: bytes, test_text: bytes) -> float:
    """Nats per byte of a text for a model that knows how often each byte is in another, and no more."""
    counts = Counter(train_text) + Counter(range(256))  # one of each, lest any be impossible
    total = counts.total()
    return -sum(math.log(counts[byte] / total) for byte in test_text) / len(test_text)


def decay_groups(net: nn.Module) -> list[dict[str, object]]:
    """The optimizer's weight decay for matrices; none for gains and biases."""
    matrices = [parameter for parameter in net.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in net.parameters() if parameter.dim() < 2]
    return [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]


class GPT(nn.Module):
    """A decoder with learned positions and tied embeddings (GPT-2, Radford et al. 2019).

    tokens (B, T ≤ context) → logits of the token after each (B, T, vocabulary).
    """

    def __init__(
        self,
        context: Annotated[int, Gt(0)] = 64,
        depth: Annotated[int, Gt(0)] = 3,
        width: Annotated[int, Gt(0)] = 128,
        heads: Annotated[int, Gt(0)] = 4,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        vocabulary: Annotated[int, Gt(0)] = 256,
    ) -> None:
        super().__init__()
        self.context = context
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:  # what is added 2·depth times starts that much smaller
                added = name.endswith("out.weight")
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * depth) if added else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each."""
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        x = self.norm(self.blocks(self.dropout(x)))
        return F.linear(x, self.tokens.weight)


class Block(nn.Module):
    """Attention to what came before, then two linear layers; each adds to its input: (B, T, W) → (B, T, W)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_in = nn.Linear(width, 4 * width, bias=False)
        self.mlp_out = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The residual stream after this block."""
        x = x + self.dropped(self.attention(self.norm_1(x)))
        return x + self.dropped(self.mlp_out(F.gelu(self.mlp_in(self.norm_2(x)))))

    def attention(self, x: Tensor) -> Tensor:
        """Causal self-attention with H heads."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        out: Tensor = self.attention_out(mixed.transpose(1, 2).flatten(2))
        return out

    def dropped(self, x: Tensor) -> Tensor:
        """Dropout on what a layer adds."""
        return F.dropout(x, self.dropout, self.training)


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Stretches of a text and the same one byte on: ((T,), (T,)) int64, `stride` bytes apart."""

    def __init__(self, text: bytes, length: int, stride: int = 1) -> None:
        self.text = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        self.length, self.stride = length, stride

    def __len__(self) -> int:
        return max(0, (len(self.text) - 1 - self.length) // self.stride + 1)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start = index * self.stride
        window = self.text[start : start + self.length + 1].long()
        return window[:-1], window[1:]


def documentation(
    split: Literal["train", "test"] = "train", hold_out_every: Annotated[int, Ge(2)] = 10
) -> bytes:
    """The text behind Python's `help("topics")`, from the standard library (PSF licence).

    Every tenth topic is held out. Topics quote each other at length: a paragraph is taken once, and never
    for training if a topic that is held out has it, too.
    """
    from pydoc_data.topics import topics

    names = sorted(topics)
    held_out = names[::hold_out_every]
    test = paragraphs(topics[name] for name in held_out)
    every = paragraphs(topics[name] for name in names)
    train = [part for part in every if part not in test]
    return "\n\n".join({"train": train, "test": test}[split]).encode()


def paragraphs(texts: Iterable[str]) -> dict[str, None]:
    """The paragraphs of texts, each once, in order."""
    return dict.fromkeys(part for text in texts for part in re.split("\n{2,}", text.strip()))
