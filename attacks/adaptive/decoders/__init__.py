"""Decoders: from answers, labels and an own student's answers to what the answers mean; pure functions on tensors.

Rows are the views of the images, view by view, in the order in which they were asked: row v·N + i is view v of image i.
"""

from attacks.adaptive.decoders.change import change_point as change_point
from attacks.adaptive.decoders.decoding import Decoding as Decoding
from attacks.adaptive.decoders.evidence import Evidence as Evidence
from attacks.adaptive.decoders.evidence import better as better
from attacks.adaptive.decoders.evidence import evidence as evidence
from attacks.adaptive.decoders.floor import floor as floor
from attacks.adaptive.decoders.lies import lies as lies
from attacks.adaptive.decoders.match import match as match
from attacks.adaptive.decoders.matrix import matrix as matrix
from attacks.adaptive.decoders.mixture import mixture as mixture
from attacks.adaptive.decoders.moved import moved as moved
from attacks.adaptive.decoders.offset import offset as offset
from attacks.adaptive.decoders.ranks import ranks as ranks
from attacks.adaptive.decoders.scale import class_scale as class_scale
from attacks.adaptive.decoders.scale import likeliest as likeliest
from attacks.adaptive.decoders.scale import scale as scale
from attacks.adaptive.decoders.sign import sign as sign
from attacks.adaptive.decoders.trust import trust as trust
from attacks.adaptive.decoders.unmix import unmix as unmix
from attacks.adaptive.decoders.views import mean_views as mean_views
from attacks.adaptive.decoders.views import widths as widths
