"""What training runs through: the phases from the start, and those that start from the shipped checkpoint."""

from dataclasses import dataclass, replace
from pathlib import Path

from weights.training.loss import Weights
from weights.training.scenes import SceneRules
from weights.training.shards import Phase


@dataclass(frozen=True)
class Recipe:
    """Phases and what is the same in all of them.

    Attributes:
        phases: in their order.
        rate: the learning rate after the warm-up; "single" has four times as much.
        fall_from: the share of the detector's rounds after which the cosine begins.
        eos: the weight of no-object in the loss.
        weights: of the other losses.
        last_weights: the same in the last phase.
        groups: of queries.
        frozen_stem_from: the phase from which on stem and first stage are frozen; DETR freezes both too.
        frozen_statistics: whether all batch norm statistics are.
        validate_rounds: rounds from one validation to the next.
        log_steps: updates from one line of the log to the next.
    """

    phases: tuple[Phase, ...]
    rate: float
    fall_from: float
    eos: float
    weights: Weights
    last_weights: Weights
    groups: int
    frozen_stem_from: int
    frozen_statistics: bool = False
    validate_rounds: int = 8
    log_steps: int = 60

    def with_photographs(self, photographs: Path | None) -> "Recipe":
        """The recipe with this directory of photographs for its natural backgrounds."""
        phases = (replace(one, rules=replace(one.rules, photographs=photographs)) for one in self.phases)
        return replace(self, phases=tuple(phases))


FIRST = Recipe(
    phases=(
        Phase("single", 100, SceneRules((64, 64), 1.0, (1, 1), (0.28, 0.95)), 64, 64, 6, 96, 4032),
        Phase("small", 101, SceneRules((112, 160), 1.6, (1, 5), (0.15, 2 / 3)), 112, 176, 27, 16, 360),
        Phase("full", 102, SceneRules((128, 384)), 128, 208, 22, 16, 360),
        Phase("sharp", 103, SceneRules((128, 384), objects=(2, 8)), 160, 256, 61, 16, 360),
        Phase("fine", 104, SceneRules(objects=(2, 8)), 208, 336, 20, 16, 360),
        Phase("large", 105, SceneRules(objects=(2, 8)), 256, 416, 26, 16, 360),
        Phase("whole", 106, SceneRules(objects=(2, 8)), 320, 512, 32, 16, 360),
        Phase("close", 107, SceneRules(objects=(2, 8)), 384, 608, 16, 16, 360),
    ),
    rate=3e-4,
    fall_from=0.818,
    eos=0.2,  # DETR uses 0.1, with more than three times as many queries
    weights=Weights(),
    last_weights=Weights(boxes=2.0, cells=0.2),  # in the last phase boxes have the largest error
    groups=4,
    frozen_stem_from=2,
)

# The shipped checkpoint has one group of queries and no heads for the encoder's cells, so neither is used. With the
# no-object weight 0.2 a score of 0.5 means one object in six; at 0.5 it means one in three.
_QUIET_RULES = SceneRules(objects=(1, 8), natural=0.4, empty=0.25)
_QUIET_LOSS = Weights(boxes=2.0, cells=0.0)
QUIET = Recipe(
    # The checkpoint is one for 384 px: a phase at a smaller size takes away what a later one has to give back.
    phases=(Phase("quiet", 120, _QUIET_RULES, 384, 608, 72, 16, 64),),
    rate=1e-4,
    fall_from=0.3,
    eos=0.5,
    weights=_QUIET_LOSS,
    last_weights=_QUIET_LOSS,
    groups=1,
    frozen_stem_from=0,
    frozen_statistics=True,
    validate_rounds=4,
    log_steps=8,
)
