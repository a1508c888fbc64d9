"""Which steps of the training chain sampling visits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.base import variant
from ddpm.sampling.spacing import SPACINGS, timesteps
from tests.small import build

SCHEDULES = variant.names("schedules")


def whole(T: int, name: str = "linear", zero_terminal_snr: bool = False):
    return build("schedules", name, zero_terminal_snr=zero_terminal_snr).noise_schedule(T)


@given(
    spacing=st.sampled_from(sorted(SPACINGS)),
    name=st.sampled_from(SCHEDULES),
    length=st.integers(10, 1200),
    data=st.data(),
    terminal=st.booleans(),
)
def test_timesteps_are_distinct_ascending_and_end_at_T(spacing, name, length, data, terminal):
    schedule = whole(length, name, terminal)
    steps = data.draw(st.integers(1, length))
    visited = timesteps(schedule, steps, spacing)
    assert visited.shape == (steps,)
    assert np.all(np.diff(visited) > 0)
    assert visited[0] >= 1
    assert visited[-1] == length


@pytest.mark.parametrize("spacing", SPACINGS)
def test_as_many_steps_as_the_chain_has_visit_all(spacing):
    assert timesteps(whole(100), 100, spacing).tolist() == list(range(1, 101))
    assert timesteps(whole(1), 1, spacing).tolist() == [1]


def test_the_papers_spacings():
    assert timesteps(whole(1000), 5, "uniform").tolist() == [1, 251, 500, 750, 1000]
    assert timesteps(whole(1000), 5, "trailing").tolist() == [200, 400, 600, 800, 1000]
    # Lin et al. 2023, table 2: trailing at 50 steps is 1000, 980, ... 20
    assert timesteps(whole(1000), 50, "trailing").tolist() == list(range(20, 1001, 20))


@pytest.mark.parametrize("name", ["linear", "karras"])
def test_karras_is_equation_5_between_the_chains_ends(name):
    schedule, steps, rho = whole(4000, name), 18, 7
    sigma = np.exp(-schedule.log_snr / 2)
    place = np.arange(steps) / (steps - 1)
    published = (sigma[-1] ** (1 / rho) + place * (sigma[0] ** (1 / rho) - sigma[-1] ** (1 / rho))) ** rho
    found = sigma[timesteps(schedule, steps, "karras") - 1][::-1]
    inner = published > 3 * sigma[0]  # the linear chain's first steps are far apart
    np.testing.assert_allclose(found[inner], published[inner], rtol=0.02)
    assert found[[0, -1]].tolist() == sigma[[-1, 0]].tolist()
