"""Training, recipes, sweeps over seeds and settings, and the recorded runs."""
