"""The three stages of a hybrid network: adapt a redundant one, rank its units and keep the best, restore."""

from pathlib import Path

import hstnn_deploy as hd

small = ["network.units=[24,24]", "adapt.epochs=5", "restore.epochs=3", "selection.probes=10", "ratio=0.5"]
recipe = hd.load_recipe("digits", small)
print(recipe)
out = Path("runs")
(adapted,) = hd.train_recipe(recipe, out, stage="adapt")
hd.train_recipe(recipe, out, stage="select")
(restored,) = hd.train_recipe(recipe, out, stage="restore")
print(adapted, restored, sep="\n")
print(hd.load_network(adapted.best))
print(hd.load_network(restored.best))
print(hd.export_bundle(restored.best, "hybrid-bundle"))
