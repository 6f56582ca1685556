"""How an engine instance is laid out: parallelism, number formats and the links it runs over, and the refusals."""

from __future__ import annotations

from dataclasses import dataclass

from twin.catalog import Part
from twin.errors import InputError

#: bytes an element takes in memory; FP4 carries an 8-bit scale for each block of 16.
ELEMENT_BYTES = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5625}


class Unfit(InputError):  # noqa: N818  # a verdict, read as "is unfit"
    """A model, precision, parallelism, GPU and backend that do not go together; the text says why."""


class DoesNotFit(Unfit):
    """The weights leave no room for KV cache in the memory of the GPUs."""


@dataclass(frozen=True, slots=True)
class Parallelism:
    """Attention runs on `tp` x `dp` ranks; the experts are spread over the same GPUs as `ep` x `moe_tp`."""

    tp: int = 1
    dp: int = 1
    ep: int = 1
    pp: int = 1

    def __post_init__(self) -> None:
        for name in ("tp", "dp", "ep", "pp"):
            if getattr(self, name) < 1:
                raise Unfit(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.stage_gpus % self.ep:
            raise Unfit(f"ep {self.ep} does not divide the {self.stage_gpus} GPUs of tp {self.tp} x dp {self.dp}")

    @property
    def stage_gpus(self) -> int:
        """GPUs of one pipeline stage."""
        return self.tp * self.dp

    @property
    def gpus(self) -> int:
        """GPUs of the instance."""
        return self.stage_gpus * self.pp

    @property
    def moe_tp(self) -> int:
        """GPUs that share the weights of one expert."""
        return self.stage_gpus // self.ep


@dataclass(frozen=True, slots=True)
class Precision:
    """Number formats: `weights` bf16, fp8 or fp4; `kv` bf16 or fp8."""

    weights: str
    kv: str

    def __post_init__(self) -> None:
        if self.weights not in ELEMENT_BYTES:
            raise Unfit(f"weights in {self.weights!r}: known are {', '.join(ELEMENT_BYTES)}")
        if self.kv not in ("bf16", "fp8"):
            raise Unfit(f"KV cache in {self.kv!r}: known are bf16, fp8")


@dataclass(frozen=True, slots=True)
class Interconnect:
    """Links of an instance: NVLink inside the scale-up domain, NICs across it. Bandwidths are one way and per GPU."""

    domain_gpus: int
    scale_up_bytes_per_s: float
    scale_up_latency_s: float
    scale_out_bytes_per_s: float
    scale_out_latency_s: float
    scale_out_efficiency_frac: float


def interconnect_of(gpu: Part, scale_out_efficiency_frac: float, domain_gpus: int | None = None) -> Interconnect:
    """The links of `gpu` as the catalogue has them, in a scale-up domain of `domain_gpus` (the GPU's own by default)."""
    return Interconnect(
        domain_gpus=int(gpu.number("nvlink_domain_gpus")) if domain_gpus is None else domain_gpus,
        scale_up_bytes_per_s=gpu.number("nvlink_bytes_per_s"),
        scale_up_latency_s=gpu.number("nvlink_latency_s"),
        scale_out_bytes_per_s=gpu.number("nic_bytes_per_s"),
        scale_out_latency_s=gpu.number("nic_latency_s"),
        scale_out_efficiency_frac=scale_out_efficiency_frac,
    )
