"""Times of passes of a model that is shared by several devices: by tensors, or by stages."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.estimates.ceilings import Ceilings
from helpers.estimates.cost import layer_weights
from helpers.estimates.parallelism.traffic import TensorTraffic
from helpers.model.shapes import ModelShape
from helpers.simulation.collective_times import Wire
from helpers.simulation.pass_time import Load, PassTime, RooflineTime


class TensorParallelTime:
    """Predict passes of `world` tensor-parallel devices: an even share of the work, and what they say to each other.

    A pass has two sums a layer and one for the embedding, of `[tokens, hidden]`, and a gather of fp32 logits.
    """

    def __init__(
        self,
        shape: ModelShape,
        ceilings: Ceilings,
        wire: Wire,
        world: int,
        overhead: float = 0.0,
        **sizes: float,
    ):
        """Take one device's ceilings; `sizes` are the options of `step_cost`.

        Raises ValueError for less than one device, and as `RooflineTime` does.
        """
        if world < 1:
            raise ValueError(f"a group has 1 device or more, got {world}")
        together = Ceilings(ceilings.bandwidth * world, ceilings.flops * world)
        self.work, self.wire, self.world = RooflineTime(shape, together, overhead, **sizes), wire, world
        self._shape, self._element = shape, sizes.get("element_bytes", 2.0)

    def __call__(self, load: Load) -> float:
        """Return the seconds of a pass."""
        return self.work(load) + self.communication(load)

    def communication(self, load: Load) -> float:
        """Return the seconds of a pass in which devices wait for data of other devices."""
        if self.world == 1:
            return 0.0
        said = TensorTraffic.of(self._shape, self.world, load.tokens, load.sequences, self._element)
        sums = said.sums * self.wire.all_reduce(said.sum_bytes, self.world)
        return sums + self.wire.all_gather(said.gather_bytes, self.world)


class PipelineTime:
    """Predict passes of a pipeline: `shares[stage]` is the stage's share of a pass on one device.

    With `groups` groups in turn, a group's pass ends when it went through all stages, and not before the slowest stage has
    computed all groups. So the seconds are those between two passes of one group, all groups being alike.
    """

    def __init__(
        self, whole: PassTime, shares: Sequence[float], wire: Wire, hidden_bytes: float, groups: int = 1
    ):
        """Take the time of a pass on one device, and the bytes of one token's hidden state.

        Raises ValueError for shares that are not above 0 or do not sum to 1, and for less than one group.
        """
        if not shares or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9 or groups < 1:
            raise ValueError(
                f"shares are above 0 and sum to 1, groups are 1 or more; got {list(shares)}, {groups}"
            )
        self.whole, self.shares, self.wire = whole, tuple(shares), wire
        self.hidden_bytes, self.groups = hidden_bytes, groups

    def __call__(self, load: Load) -> float:
        """Return the seconds between two passes of one group."""
        return max(self.latency(load), self.groups * max(self.shares) * self.whole(load))

    def latency(self, load: Load) -> float:
        """Return the seconds of one pass through all stages; its tokens then return to all stages."""
        hops = len(self.shares) - 1
        back = self.wire.send(8 * load.sequences) if hops else 0.0
        return self.whole(load) + hops * self.wire.send(load.tokens * self.hidden_bytes) + back


def stage_shares(shape: ModelShape, layers: Sequence[int]) -> list[float]:
    """Return each stage's share of the weights that a pass reads: its layers, and the head in the last stage.

    Raises ValueError for numbers of layers that do not sum to the model's.
    """
    if not layers or min(layers) < 0 or sum(layers) != shape.num_layers:
        raise ValueError(f"the stages share {shape.num_layers} layers, got {list(layers)}")
    weights = [count * layer_weights(shape) for count in layers]
    weights[-1] += shape.vocab_size * shape.hidden_size
    return [weight / sum(weights) for weight in weights]
