"""The rules by which each library's classes are taken: one module a library, `plain` for torch's own layers."""
