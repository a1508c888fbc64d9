"""What tells machines that run a stage together that one of them is lost."""

from __future__ import annotations

from torch.distributed.elastic.rendezvous import (
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousParameters,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import create_backend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler

WATCHED = "watched"
BEAT, MISSED = 5, 4  # seconds between a machine's heartbeats, and after how many missed ones it counts as lost


class Watched(DynamicRendezvousHandler):
    """torchrun's rendezvous, which also ends the run when a machine is lost. torchrun itself only strikes it off: a
    machine without power closes no connection, and gloo would wait for it for 30 minutes."""

    def get_backend(self) -> str:
        return WATCHED

    def num_nodes_waiting(self) -> int:
        """torchrun asks this at each look at its ranks."""
        waiting = super().num_nodes_waiting()
        state = self._state_holder.state
        if state.complete and not state.closed and len(state.participants) < self.settings.min_nodes:
            raise RendezvousConnectionError(f"one of them sent nothing for {BEAT * MISSED} seconds")
        return waiting


def _create(parameters: RendezvousParameters) -> RendezvousHandler:
    backend, store = create_backend(parameters)
    made: RendezvousHandler = Watched.from_backend(
        parameters.run_id,
        store,
        backend,
        parameters.min_nodes,
        parameters.max_nodes,
        parameters.local_addr,
        keep_alive_interval=BEAT,
        keep_alive_max_attempt=MISSED,
    )
    return made


rendezvous_handler_registry.register(WATCHED, _create)
