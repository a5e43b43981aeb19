"""Examples of studies and their data.

A regular package, since Opacus installs one of the same name, which would win over a plain folder.
"""
