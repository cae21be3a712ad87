"""Networks: neurons and their kernels, hybrid layers, the network families, and the registry that names them."""
