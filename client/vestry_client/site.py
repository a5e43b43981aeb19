"""One site as its handlers know it, and what a process needs for a study whichever site it works for."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from secrets import token_hex
from typing import TYPE_CHECKING

import numpy as np

from vestry_client.datasets import SiteData, open_data
from vestry_client.policy import PolicyRefusal, SitePolicy
from vestry_client.private import PrivateStudy, approve
from vestry_client.replies import Replies
from vestry_client.state import SiteStates
from vestry_client.train import choose_device
from vestry_privacy.canonical import canonical_hash
from vestry_privacy.coupling import RecordShape
from vestry_privacy.gradients import check_layers
from vestry_privacy.ledger import Ledger
from vestry_strategies.parameters import FlatModel
from vestry_strategies.rows import DataError, Rows
from vestry_strategies.strategies import build_strategy
from vestry_strategies.strategy import Strategy
from vestry_strategies.study import StudySpec, study_from_json
from vestry_strategies.sums import Arrays
from vestry_strategies.support import check_supported
from vestry_strategies.task import Task
from vestry_strategies.tasks.registry import find_task

if TYPE_CHECKING:
    from vestry_client.secure import SecureSeat

__all__ = ["Bench", "Site", "make_bench", "preprocessing_of"]

_log = logging.getLogger("vestry.site")


@dataclass
class Site:
    """One site: its name, its data, its rules and its memory.

    Attributes:
        name: in the federation.
        load: gives the rows for a study; called once for each study.
        policy: what this site allows.
        states: gives the place of the site's own arrays in a study, by the study's hash.
        dataset: name of the data in the policy.
        ledger: where privacy is charged; without one no study with [privacy] is let in.
        secret: key of the split of persons; never leaves the site, and must outlive the process: with
            another one a person would change sides in the middle of a study. Without one no study with
            [privacy] is let in.
        replies: gives the place of paid replies in a study, by the study's hash.
        secure: this site's seat in secure sums; without one no study that aggregates securely is let in.
    """

    name: str
    load: Callable[[StudySpec, Task], Rows]
    policy: SitePolicy = field(default_factory=SitePolicy)
    states: Callable[[str], SiteStates] = lambda study_hash: SiteStates()
    dataset: str = "data"
    ledger: Ledger | None = None
    secret: bytes = field(default=b"", repr=False)
    replies: Callable[[str], Replies] = lambda study_hash: Replies()
    secure: "SecureSeat | None" = None
    _data: dict[str, SiteData] = field(default_factory=dict, repr=False)
    _stream: str = field(default_factory=lambda: token_hex(32), repr=False)
    _states: dict[str, SiteStates] = field(default_factory=dict)
    _private: dict[str, PrivateStudy] = field(default_factory=dict)

    @property
    def stream(self) -> str:
        """Names this site's random streams: batches and dropout.

        Guarantees:
            Nobody else can tell them where there are secure sums: whoever knew which units are alive at one
            site only could read its update out of a sum. With a secret they are the same after a restart.
        """
        if self.secret:
            return canonical_hash("vestry-site-stream/1", [self.name, self.secret])
        return self.name if self.secure is None else self._stream

    def data(self, bench: "Bench") -> SiteData:
        """This site's rows for a study, read and checked once.

        Raises:
            DataError: the rows break the contract, or there are none; under [privacy] see
                :func:`~vestry_client.datasets.open_data`, or there are more persons than declared.
            PolicyRefusal: without [privacy], there are fewer than the policy demands.

        Guarantees:
            Under [privacy] a site whose declared number of persons is below what its policy demands goes on
            without its rows, so that only noise leaves. Persons are not counted for that: the step from all
            rows to none would tell the person who makes the difference.
        """
        found = self._data.get(bench.digest)
        if found is not None:
            return found
        study = bench.study
        found = open_data(study, bench.task, self.name, lambda: self.load(study, bench.task), self.secret)
        if study.privacy is None and not study.aggregation.secure:
            self.policy.check_examples(len(found.train))
        elif study.privacy is None:
            found = self._enough(found)
        else:
            found = self._declared(found)
        self._data[bench.digest] = found
        return found

    def _enough(self, data: SiteData) -> SiteData:
        """Without the rows of a part that has too few: in a secure sum a refusal would tell that it has.

        A study chooses which rows count, so the refusal would answer a question about any subset of them.
        """
        few = [len(part) < self.policy.min_examples for part in (data.train, data.holdout)]
        if any(few):
            _log.warning("fewer rows than the policy's min_examples: this site adds zeros for them")
        none = np.zeros(0, dtype=np.int64)
        train = data.train.take(none) if few[0] else data.train
        holdout = data.holdout.take(none) if few[1] else data.holdout
        return replace(data, train=train, holdout=holdout)

    def _declared(self, data: SiteData) -> SiteData:
        """Hold the rows against what the policy declares of their persons."""
        _, rules = self.policy.rules_for(self.dataset)
        if rules.unit == "site" or rules.persons is None:
            return data
        if data.persons > rules.persons and rules.adjacency == "zero-out":
            raise DataError(
                "the data hold more persons than their population declares; declare a larger number and "
                "amend the population in the ledger"
            )
        return _without_rows(data) if rules.persons < rules.min_units else data

    def own_states(self, digest: str) -> SiteStates:
        """Arrays that this site keeps between the rounds of a study."""
        if digest not in self._states:
            self._states[digest] = self.states(digest)
        return self._states[digest]

    def private(self, bench: "Bench") -> PrivateStudy:
        """A study with [privacy], let in by policy and ledger; held once, asked again every day.

        Raises:
            PolicyRefusal, PlanError, LedgerError: it is not let in.
        """
        found = self._private.get(bench.digest)
        if found is None or not found.current:
            if not self.secret:
                raise PolicyRefusal("privacy", "a split of persons", "only with a secret of this site")
            replies = self.replies(bench.digest) if found is None else found.replies
            found = approve(
                bench.study,
                bench.digest,
                self.dataset,
                self.policy,
                self.ledger,
                replies,
                self.name,
                self.secret,
            )
            self._private[bench.digest] = found
        return found

    def forget(self, digest: str) -> None:
        """Drop what is kept in memory of a study that is over."""
        for kept in (self._data, self._states, self._private):
            kept.pop(digest, None)
        if self.secure is not None:
            self.secure.forget(bytes.fromhex(digest))


def _without_rows(data: SiteData) -> SiteData:
    none = np.zeros(0, dtype=np.int64)
    return SiteData(data.train.take(none), data.holdout.take(none), none, none, 0)


@dataclass(frozen=True)
class Bench:
    """What a process needs for a study, whichever site it works for.

    Attributes:
        study: the study.
        digest: its hash.
        task: its functions.
        strategy: both halves.
        flat: the network.
        probed: shapes of records for which network and losses are known not to couple records.
    """

    study: StudySpec
    digest: str
    task: Task
    strategy: Strategy
    flat: FlatModel
    probed: set[RecordShape] = field(default_factory=set, compare=False)


@lru_cache(maxsize=4)
def make_bench(study_json: str, allowed_plugins: tuple[str, ...]) -> Bench:
    """Everything of a study that does not depend on a site.

    Raises:
        StudyError: the text is no study, or this version cannot run it.
        PluginError: the task is a plug-in that is not allowed here.
        UnsupportedLayer: under [privacy], a layer couples the records of a batch.
    """
    study = study_from_json(study_json)
    check_supported(study)
    task = find_task(study, allowed_plugins)
    flat = FlatModel(task.build_model(study), choose_device(study.training.device))
    if study.privacy is not None and study.privacy.unit != "site":
        check_layers(flat.module)
    return Bench(study, study.digest(), task, build_strategy(study.strategy), flat)


def preprocessing_of(bench: Bench, data: SiteData, shared: Arrays) -> Arrays:
    """The shared preprocessing, or the site's own where the study says so."""
    if getattr(bench.study.task, "standardise", "shared") != "per-site":
        return shared
    own = bench.task.features.statistics(bench.study, data.train)
    return bench.task.features.fit(bench.study, own)
