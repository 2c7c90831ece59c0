"""A world of nuances: people drawn procedurally, seen by visible and infrared cameras.

`people` who there is and what tells them apart · `body`, `limbs`, `outfit`, `head`, `figure` a person on a `canvas` of
`parts` · `places` cameras · `paint` light and colour · `shot` one image · `census`, `layouts` the real datasets' trees
· `drawing` a tree drawn to disk, with what is known about everybody beside it.
"""

from mpanet_pl.world.drawing import World, draw_world
from mpanet_pl.world.people import NUANCES
from mpanet_pl.world.shot import Look
from mpanet_pl.world.synthetic import Synthetic, worlds

__all__ = ["NUANCES", "Look", "Synthetic", "World", "draw_world", "worlds"]
