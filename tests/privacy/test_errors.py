"""The tree of errors is complete and each is fit to be shown."""

import importlib
import pkgutil

import vestry_client
import vestry_privacy
import vestry_server
import vestry_simulations
import vestry_strategies
from vestry_privacy.errors import VestryError

PACKAGES = (vestry_privacy, vestry_strategies, vestry_server, vestry_client, vestry_simulations)


def own_errors() -> set[type[BaseException]]:
    """Every exception class that a module of ours defines."""
    found: set[type[BaseException]] = set()
    for package in PACKAGES:
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" in info.name:
                continue  # alembic's entry runs only where alembic calls it
            module = importlib.import_module(info.name)
            found |= {
                item
                for item in vars(module).values()
                if isinstance(item, type)
                and issubclass(item, BaseException)
                and item.__module__.startswith("vestry_")
            }
    return found


def test_every_error_of_ours_is_a_vestry_error() -> None:
    errors = own_errors()
    assert len(errors) > 15
    assert all(issubclass(error, VestryError) for error in errors)


def test_the_tree_is_drawn_where_it_begins() -> None:
    drawn = importlib.import_module("vestry_privacy.errors").__doc__ or ""
    for error in own_errors():
        if VestryError in error.__bases__ and error.__name__ in drawn:
            break
    else:
        raise AssertionError("the drawing names none of the errors")
    for name in ("StudyError", "DataError", "RoundError", "CheckpointError", "StoreError", "SimulationError"):
        assert name in drawn


def test_every_error_is_drawn_in_the_file_that_defines_it() -> None:
    for error in own_errors() - {VestryError}:
        drawn = importlib.import_module(error.__module__).__doc__ or ""
        assert error.__name__ in drawn, f"{error.__module__} does not draw {error.__name__}"
