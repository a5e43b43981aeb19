"""The root of every error that Vestry raises on purpose.

The tree, each branch drawn again at the top of the file that raises it::

    VestryError
    ├── CanonicalError        privacy/canonical.py     a value has no canonical bytes
    ├── AccountingError       privacy/accounting.py    privacy parameters that make no sense
    ├── PlanError             privacy/plan.py          a privacy plan protects nobody, or cannot be met
    ├── UnitError             privacy/dpsgd.py         the records do not fit the declared persons
    ├── UnsupportedLayer      privacy/gradients.py     no person's share in a layer can be bounded
    ├── CoupledRecords        privacy/gradients.py     a loss or network mixes the records of a batch
    ├── BudgetError           privacy/budget.py        a budget makes no sense
    ├── LedgerError           privacy/ledger_errors.py the privacy ledger refuses
    ├── IdentityError         privacy/identity.py      a site's key is refused
    ├── PkiError              privacy/pki/errors.py    a certificate, token or directory change is refused
    ├── ProtocolAbort         privacy/secagg/errors.py a rule of secure aggregation is broken
    ├── StudyError            strategies/study.py      a study file is refused
    ├── DataError             strategies/rows.py       a data file breaks the study's contract
    ├── ModelFileError        strategies/artefact.py   a model file is refused
    ├── PluginError           strategies/tasks         a plug-in is missing or not allowed
    ├── RoundError            server/rounds.py         a round cannot finish
    ├── CheckpointError       server/checkpoint.py     a checkpoint cannot be written or read
    ├── StoreError            server/store.py          the coordinator's database is refused
    ├── PolicyRefusal         client/policy.py         a rule of the site's policy forbids what was asked
    ├── PolicyFileError       client/policy_file.py    a policy file is refused
    ├── ReplyError            client/replies.py        a paid reply cannot be kept or read
    ├── HomeError             client/home.py           a site's folder is refused
    ├── SpendingFileError     client/spending_file.py  a file of past spending is refused
    └── SimulationError       simulations/             the laboratory cannot run what was asked

The command line prints ``str(error)`` of these and nothing else, so a message names the field, the
problem and the way out, and never a value of a patient.
"""

__all__ = ["VestryError"]


class VestryError(Exception):
    """Base of all errors with a message that is fit for a user."""
