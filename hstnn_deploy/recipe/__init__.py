"""Recipes: what a training is, validated. Everything that trains, exports, profiles or reports stands on them."""
