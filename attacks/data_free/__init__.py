"""Attacks without images of the task: they ask about noise, or about images from a generator."""

from __future__ import annotations

from attacks.base import Attack
from attacks.data_free.dfme import DFME
from attacks.data_free.dfms import DFMS
from attacks.data_free.dfms_hl import DFMSHL
from attacks.data_free.disguide import DisGUIDE
from attacks.data_free.ideal import IDEAL
from attacks.data_free.maze import MAZE
from attacks.data_free.noise import Noise
from attacks.data_free.zsdb3kd import ZSDB3KD

ATTACKS: tuple[type[Attack], ...] = (Noise, DFME, MAZE, DisGUIDE, DFMS, DFMSHL, IDEAL, ZSDB3KD)
