"""`python -m benchmarks.frameworks <framework> <folder>`: its loop and the bare one, in a process of its own.

Prints JSON: microseconds a step, on the clock and of CPU. Every loop learns the same ready batch, which a
DataLoader hands out; the batches tell the time, so that no loop times itself.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.mlp import make

if TYPE_CHECKING:
    from crown_exp import Run

WARM, STEPS, TURNS = 400, 4400, 2
"""Steps that are not counted, all steps (a second: a log's thread works four times), and turns of the loops."""


class Batches(IterableDataset[Any]):
    """One batch, again and again; it notes the clocks when they are asked for the first and last counted."""

    def __init__(self, batch: Any) -> None:
        self.batch, self.clocks = batch, [(0.0, 0.0)] * 2

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Any]:
        for number in range(STEPS):
            if number in (WARM, STEPS - 1):
                self.clocks[number != WARM] = time.perf_counter(), time.process_time()
            yield self.batch

    def cost(self) -> tuple[float, float]:
        """Microseconds a step: on the clock, of CPU."""
        first, last = self.clocks
        counted = (STEPS - 1 - WARM) / 1e6
        return (last[0] - first[0]) / counted, (last[1] - first[1]) / counted


class Job(NamedTuple):
    """What a loop is given, anew each time."""

    net: torch.nn.Module
    opt: torch.optim.Optimizer
    batches: Batches
    loader: DataLoader[Any]


def job(batch: Callable[[Any], Any] = lambda batch: batch) -> Job:
    """A module, its optimizer and what it learns; `batch` is the form that a framework wants it in."""
    net, opt, data = make()
    batches = Batches(batch(data))
    return Job(net, opt, batches, DataLoader(batches, batch_size=None))


def bare(folder: Path, logs: bool) -> Batches:
    """No framework."""
    net, opt, batches, loader = job()
    for inputs, labels in loader:
        loss = F.cross_entropy(net(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        opt.step()
        opt.zero_grad()
    return batches


def accelerate(folder: Path, logs: bool) -> Batches:
    """Everything prepared; its TensorBoard tracker."""
    from accelerate import Accelerator

    whole = Accelerator(cpu=True, log_with="tensorboard" if logs else None, project_dir=folder)
    if logs:
        whole.init_trackers("bench")
    net, opt, batches, loader = job()
    net, opt, loader = whole.prepare(net, opt, loader)
    for number, (inputs, labels) in enumerate(loader):
        loss = F.cross_entropy(net(inputs), labels)
        whole.backward(loss)
        opt.step()
        opt.zero_grad()
        if logs:
            whole.log({"loss": loss.item(), "accuracy": 0.5, "rate": 0.01}, step=number)
    if logs:
        whole.end_training()
    return batches


def fabric(folder: Path, logs: bool) -> Batches:
    """Everything set up; its CSV logger."""
    from lightning.fabric import Fabric
    from lightning.fabric.loggers import CSVLogger

    whole = Fabric(accelerator="cpu", devices=1, loggers=[CSVLogger(folder)] if logs else None)
    net, opt, batches, loader = job()
    net, opt = whole.setup(net, opt)
    loader = whole.setup_dataloaders(loader)
    for number, (inputs, labels) in enumerate(loader):
        loss = F.cross_entropy(net(inputs), labels)
        whole.backward(loss)
        opt.step()
        opt.zero_grad()
        if logs:
            whole.log_dict({"loss": loss.item(), "accuracy": 0.5, "rate": 0.01}, step=number)
    return batches


def lightning(folder: Path, logs: bool) -> Batches:
    """All that can be switched off is; its CSV logger."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.loggers import CSVLogger

    net, opt, batches, loader = job()

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: Any, index: int) -> Any:
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            if logs:
                self.log_dict({"loss": loss.detach(), "accuracy": 0.5, "rate": 0.01})
            return loss

        def configure_optimizers(self) -> Any:
            return opt

    Trainer(
        accelerator="cpu", devices=1, max_steps=STEPS, max_epochs=1, log_every_n_steps=1,
        logger=CSVLogger(folder) if logs else False, default_root_dir=folder,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    ).fit(Module(), loader)  # fmt: skip
    return batches


def transformers(folder: Path, logs: bool) -> Batches:
    """The Trainer without checkpoints and bar; loss, gradient's norm and rate to TensorBoard at each step."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    net, opt, batches, loader = job(lambda data: {"inputs": data[0], "labels": data[1]})

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, inputs: Any, labels: Any) -> Any:
            return {"loss": F.cross_entropy(self.net(inputs), labels)}

    class Given(Trainer):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            return loader

    arguments = TrainingArguments(
        str(folder), max_steps=STEPS, use_cpu=True, save_strategy="no", disable_tqdm=True,
        report_to="tensorboard" if logs else "none", logging_strategy="steps" if logs else "no",
        logging_steps=1, max_grad_norm=1.0 if logs else 0.0,
    )  # fmt: skip
    trainer = Given(
        Model(), arguments, train_dataset=batches,
        optimizers=(opt, torch.optim.lr_scheduler.LambdaLR(opt, lambda _: 1.0)),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return batches


FRAMEWORKS: dict[str, Callable[[Path, bool], Batches]] = {
    "accelerate": accelerate,
    "fabric": fabric,
    "lightning": lightning,
    "transformers": transformers,
}


def in_run(run: Run) -> Any:
    """The task: ours, and the bare loop."""
    loops = iter(range(2 * TURNS))  # every loop of a run has its own name

    def ours(folder: Path, logs: bool) -> Batches:
        """`run.steps`, `run.backward`, `run.update`; `run.log` of three values."""
        net, opt, batches, loader = job()
        for inputs, labels in run.steps(loader, STEPS, name=f"loop {next(loops)}"):
            loss = F.cross_entropy(net(inputs), labels)
            run.backward(loss)
            run.update(opt)
            if logs:
                run.log(loss=loss, accuracy=0.5, rate=0.01)
        return batches

    time.sleep(2)  # what a run does beside its first steps, its place in the index, is done
    return in_turns(ours, run.folder)


def in_turns(loop: Callable[[Path, bool], Batches], folder: Path) -> dict[str, list[float]]:
    """Median microseconds a step, on the clock and of CPU: bare; beyond it, without a log and with one."""
    taken: list[list[tuple[float, float]]] = []
    for turn in range(TURNS):
        base = bare(folder, False).cost()
        costs = [loop(folder / f"{turn}-{logs}", logs).cost() for logs in (False, True)]
        taken.append([base, *((wall - base[0], cpu - base[1]) for wall, cpu in costs)])
    names = ("bare", "silent", "logged")
    return {
        name: [median(turn[at][clock] for turn in taken) for clock in (0, 1)]
        for at, name in enumerate(names)
    }


def main(name: str, folder: str) -> None:
    """Time one of them; what it prints goes to stderr."""
    with redirect_stdout(sys.stderr):
        if name == "ours":
            import crown_exp

            task = ("++task._target_=benchmarks.frameworks.in_run", "device.threads=1")
            costs = crown_exp.start(*task, "tracker=none").result
        else:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            costs = in_turns(FRAMEWORKS[name], Path(folder))
    print(json.dumps(costs))


if __name__ == "__main__":
    main(*sys.argv[1:])
