"""Recipes: validated descriptions of trainings, which training, export, profiling and reports are based on."""
