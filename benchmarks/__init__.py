"""The benchmarks: commands that print the figures of the documentation, not installed with the packages.

A regular package, since Opacus installs one of the same name, which would win over a plain folder.
"""
