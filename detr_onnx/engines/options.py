"""How a model is to be run: the options that Detector, the models, the benchmarks, the server and the CLI share."""

from __future__ import annotations

from dataclasses import dataclass

from detr_onnx.arguments import checked_number
from detr_onnx.defaults import DEFAULT_ENGINE
from detr_onnx.engines.providers import ProviderSpec, check_provider_spec, provider_names

MOST_THREADS = 1024  # engines start as many as they are told, until the system has none left


@dataclass(frozen=True)
class EngineOptions:
    """Options of an engine.

    Attributes:
        engine: a name in `table.ENGINES`, or "auto" for the fastest that can run the model here.
        providers: ONNX Runtime's execution providers in order of preference; None is the CPU.
        precision: what to compute in; None is the engine's default.
        threads: used by one operation, at most `MOST_THREADS`; None leaves it to the engine.

    Raises:
        UsageError: the number of threads or the form of the providers is wrong.
    """

    engine: str = DEFAULT_ENGINE
    providers: ProviderSpec | None = None
    precision: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.threads is not None:
            expected = f"a whole number from 1 to {MOST_THREADS}"
            threads = checked_number("the number of threads", self.threads, expected, MOST_THREADS)
            object.__setattr__(self, "threads", threads)  # engines take integers of Python only
        if self.providers is not None:
            check_provider_spec(self.providers)

    def given(self) -> dict[str, str]:
        """The options that only some engines take and that are set, with their values as text."""
        values = {
            "providers": provider_names(self.providers) if self.providers is not None else None,
            "threads": str(self.threads) if self.threads is not None else None,
        }
        return {name: value for name, value in values.items() if value is not None}
