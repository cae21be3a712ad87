"""Hybrid networks: layers of spiking and recurrent units side by side; selection keeps some of them."""
