"""An optimizer's state in parts, one on each rank."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import Optimizer

from ddpm.compute.distributed import Ranks


class Sharded(ZeroRedundancyOptimizer):
    """Stage 1 of ZeRO, Rajbhandari et al. 2019 (arXiv:1910.02054): each rank keeps the state of some parameters, makes
    their step and sends them to the others. Each parameter's step has the same bytes as without.

    State goes to the main rank and back as plain tensors. torch's own way unpickles what other ranks send, leaves a
    copy of the whole on the main rank after each checkpoint, and one more of its part on each rank after a load.
    """

    def __init__(self, parameters: Sequence[Tensor], make: Callable[[Sequence[Tensor]], Optimizer], ranks: Ranks):
        """make: an optimizer with one group, of the given parameters."""
        super().__init__(parameters, lambda groups: make(groups[0]["params"]))  # type: ignore[arg-type]
        self.ranks = ranks

    def state_dict(self) -> dict[str, Any]:
        """The whole on the main rank, on the CPU. Every rank calls it."""
        (group,) = self.param_groups
        places = {parameter: place for place, parameter in enumerate(group["params"])}
        own = {
            f"{places[parameter]}.{name}": value.cpu()
            for parameter, values in self.optim.state.items()
            for name, value in values.items()
        }
        states: dict[int, dict[str, Tensor]] = {}
        for rank in range(self.ranks.size):
            part = self.ranks.broadcast(own, rank)
            for key, value in part.items() if self.ranks.main else ():
                place, _, name = key.partition(".")
                states.setdefault(int(place), {})[name] = value
        return {"state": states, "param_groups": [{**group, "params": list(places.values())}]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Each rank takes its part of the whole."""
        (group,), (whole,), (own,) = state_dict["param_groups"], self.param_groups, self.optim.param_groups
        places = {parameter: place for place, parameter in enumerate(whole["params"])}
        found = {number: state_dict["state"].get(places[one]) for number, one in enumerate(own["params"])}
        states = {number: values for number, values in found.items() if values}
        self.optim.load_state_dict({"state": states, "param_groups": [{**group, "params": list(found)}]})
        whole.update({**group, "params": whole["params"]})
