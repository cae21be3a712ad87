"""Networks of other libraries: torch modules as stacks, each proved against the module itself.

`from_torch` is the way in. A library has a module here with a table from its classes to layers of a stack; to take one
more class, write its function and name it there.
"""
