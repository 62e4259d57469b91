"""Go on in a notebook, cell by cell: load an audit, make a table, pair students by hand, draw a plot."""

# %% An audit as data frames; docs/tables.md tells their columns.
from pathlib import Path

import matplotlib.pyplot as plt

import audit

found = audit.load(Path(__file__).parent / "demo-smoke")
print(found)

# %% The attacks by margin, in points, with 95 % intervals.
table = found.attacks.set_index("attack").sort_values("margin", ascending=False)
points = (100 * table[["accuracy", "control_accuracy", "margin", "low", "high"]]).round(1)
print(points.join(table.passes_positive_control).to_string())

# %% Pair by hand: on which classes does the strongest attack gain, over all of its seeds?
pairs = found.pairs[found.pairs.attack == table.index[0]]
knockoffs, controls = found.correct(pairs.key), found.correct(pairs.control_key)
gain = (knockoffs.mean() - controls.mean()).groupby(found.labels()).mean()
names = found.classes[found.classes.pool == "validation"].set_index("label").name
print((100 * gain).rename(index=names).nlargest(3).round(1).to_string())

# %% How concentrated the teacher's answers are, over temperature.
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for pool, curve in found.cmi.groupby("pool"):
    axes.errorbar(curve.temperature, curve.cmi, 1.96 * curve.se, label=str(pool))
axes.set(xscale="log", xlabel="temperature", ylabel="CMI, nats")
axes.legend()
figure.savefig("cmi.png")
