"""Hybrid networks: layers of spiking and recurrent units side by side, of which selection keeps some."""
