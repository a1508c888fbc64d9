"""params.yaml -> data/checked, which only says that params.yaml is possible. All other stages run after this one.

DVC deletes a stage's outputs before it runs the stage again, so a mistake has to end the run here.
"""

from typing import Any

from ddpm.base.files import write_text
from ddpm.base.machine import close_site_cache
from ddpm.base.paths import CHECKED
from ddpm.params import possible
from ddpm.params.config import Config


def main(config: Config, params: dict[str, Any]) -> None:
    """params: all of params.yaml, from which ``config`` was made."""
    close_site_cache()
    possible.refuse_impossible(config, params)
    write_text(CHECKED, "params.yaml is possible\n")
