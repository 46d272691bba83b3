"""Cost functions: plain arithmetic that takes and returns numbers, numpy arrays or DataArrays alike.

One physical part a module. They know no catalog, no conventions and not one another; every constant is an argument.
"""
