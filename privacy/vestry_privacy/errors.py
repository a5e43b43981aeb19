"""The root of every error that Vestry raises on purpose.

The tree, each branch drawn again at the top of the file that raises it::

    VestryError
    ├── CanonicalError        privacy/canonical.py     a value has no canonical bytes
    ├── StudyError            strategies/study.py      a study file is refused
    ├── DataError             strategies/rows.py       a data file breaks the study's contract
    ├── ModelFileError        strategies/artefact.py   a model file is refused
    ├── PluginError           strategies/tasks         a plug-in is missing or not allowed
    ├── RoundError            server/rounds.py         a round cannot finish
    ├── CheckpointError       server/checkpoint.py     a checkpoint cannot be written or read
    ├── StoreError            server/store.py          the coordinator's database is refused
    ├── SiteError             client/handlers.py       a site answers with a refusal
    └── SimulationError       simulations/             the laboratory cannot run what was asked

The command line prints ``str(error)`` of these and nothing else, so a message names the field, the
problem and the way out, and never a value of a patient.
"""

__all__ = ["VestryError"]


class VestryError(Exception):
    """Base of all errors with a message that is fit for a user."""
