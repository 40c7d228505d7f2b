"""Times of passes of a mixture of experts whose experts lie on several devices."""

from __future__ import annotations

from helpers.estimates.ceilings import Ceilings
from helpers.estimates.cost import StepCost
from helpers.estimates.layer_cost import layer_weights_read
from helpers.estimates.parallelism.experts import devices_per_token
from helpers.model.shapes import ModelShape
from helpers.simulation.collective_times import Wire
from helpers.simulation.pass_time import Load, at_load, linear_parts


class ExpertParallelTime:
    """Predict passes of `world` devices that share the experts; each has all other weights, and its own sequences.

    A load is that of all devices, spread evenly. In each layer with experts, tokens travel to the devices of their experts
    and come back. All wait for the device whose experts have most to compute.
    """

    def __init__(
        self,
        shape: ModelShape,
        ceilings: Ceilings,
        wire: Wire,
        world: int,
        imbalance: float = 1.0,
        weight_bytes: float = 2.0,
        element_bytes: float = 2.0,
    ):
        """Take one device's ceilings, and the busiest device's tokens over the mean (`ExpertLoad.imbalance`).

        Raises ValueError for a model without experts, for more devices than experts, and for an imbalance that is not
        between 1 and the number of devices.
        """
        groups = [(layer, count) for layer, count in shape.groups.items() if layer.num_experts]
        if not groups:
            raise ValueError(f"{shape.name} has no experts that devices could share")
        if not 1 <= imbalance <= max(world, 1):
            raise ValueError(f"the imbalance is a factor between 1 and {world} devices, got {imbalance}")
        self.shape, self.ceilings, self.wire, self.world = shape, ceilings, wire, world
        self.imbalance, self._weight, self._element = imbalance, weight_bytes, element_bytes
        self._experts = groups
        self._rows = [
            (count, devices_per_token(layer.num_experts, layer.experts_per_token, world))
            for layer, count in groups
        ]
        self._flops, self._moved = linear_parts(
            shape, _without_weights, weight_bytes=weight_bytes, element_bytes=element_bytes
        )

    def __call__(self, load: Load) -> float:
        """Return the seconds of a pass of the busiest device."""
        return self.work(load) + self.communication(load)

    def work(self, load: Load) -> float:
        """Return the seconds in which the busiest device computes and reads."""
        of_experts = 2 * load.tokens * sum(n * x.experts_per_token * x.expert for x, n in self._experts)
        rest = at_load(self._flops, load) - of_experts
        flops = (rest + self.imbalance * of_experts) / self.world
        nbytes = self._weights(load.tokens) * self._weight + at_load(self._moved, load) / self.world
        return self.ceilings.seconds(flops, nbytes)

    def communication(self, load: Load) -> float:
        """Return the seconds in which tokens travel to their experts and back, in all layers."""
        if self.world == 1:
            return 0.0
        row = load.tokens / self.world * self.shape.hidden_size * self._element
        return sum(
            2 * count * self.wire.all_to_all(row * devices, self.world) for count, devices in self._rows
        )

    def _weights(self, tokens: int) -> float:
        """Return the weights that one device reads: its share of the experts that all tokens meet, and all others."""
        experts = sum(n * layer.distinct_experts(tokens) * layer.expert for layer, n in self._experts)
        every = sum(n * layer_weights_read(layer, tokens) for layer, n in self.shape.groups.items())
        ends, head = self.shape.ends, self.shape.hidden_size * self.shape.vocab_size
        outside = ends.matrices + ends.vectors + head + ends.row * tokens / self.world
        return every - experts + experts / self.world + outside


def _without_weights(cost: StepCost) -> tuple[float, float]:
    """Return a pass's operations, and its bytes but for weights: those are not linear in the tokens."""
    return cost.flops, cost.kv_bytes + cost.activation_bytes
