"""What the trainings share: the log, the checkpoint to resume from, the moving average of the parameters."""

import json
import time
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn


class Resumable:
    """A training with its directory.

    Attributes:
        states: names of the attributes whose state is in the checkpoint.
        head: where the training is, for the log.
        progress: a dataclass with `step`, the number of updates, and `seconds`, those of earlier runs included.
    """

    states: ClassVar[tuple[str, ...]] = ("model", "average", "adamw")
    progress: Any

    def __init__(self, work: Path) -> None:
        self.work = work
        self.started = self.saved = time.monotonic()

    @property
    def head(self) -> dict[str, object]:
        raise NotImplementedError

    def log(self, entry: dict[str, object]) -> None:
        """Appends a JSON line to the log: the head, the updates and seconds so far, and the entry."""
        seconds = round(self.progress.seconds + time.monotonic() - self.started)
        line = self.head | {"step": self.progress.step, "seconds": seconds} | entry
        with (self.work / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def save(self) -> None:
        """Writes the checkpoint for resuming."""
        now = time.monotonic()
        self.progress.seconds += now - self.started
        self.started = self.saved = now
        state = {name: getattr(self, name).state_dict() for name in self.states}
        torch.save(state | {"progress": vars(self.progress)}, self.work / "checkpoint.part")
        (self.work / "checkpoint.part").rename(self.work / "checkpoint.pt")

    def resume(self) -> None:
        """Reads the checkpoint, if there is one."""
        path = self.work / "checkpoint.pt"
        if path.is_file():
            state = torch.load(path, weights_only=True)
            for name in self.states:
                getattr(self, name).load_state_dict(state[name])
            vars(self.progress).update(state["progress"])
            self.started = time.monotonic()


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, keep: float, step: int) -> None:
    """Moves the average towards the model, batch norm statistics included; less and less up to `keep`."""
    kept = min(keep, (1 + step) / (10 + step))
    ours = [tensor for tensor in average.state_dict().values() if tensor.is_floating_point()]
    new = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    torch._foreach_lerp_(ours, new, 1 - kept)
