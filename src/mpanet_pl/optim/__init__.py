"""How weights move: an optimiser over what learns, and a schedule of its learning rates."""

from mpanet_pl.optim.optimizers import build_optimizer as build_optimizer
from mpanet_pl.optim.schedules import Span as Span
from mpanet_pl.optim.schedules import build_schedule as build_schedule
