"""Looks now and then whether a branch or tag has moved on from what was pinned, and says so. It is never followed."""

import logging
import random
import re
from datetime import timedelta

from neuron_operator import hub
from neuron_operator.api.model_source import HuggingFaceSource
from neuron_operator.errors import Conflict
from neuron_operator.model.revision import UPSTREAM_ANNOTATION, parse_revision
from neuron_operator.model.scope import Scope
from neuron_operator.model.steps import Continue, Step
from neuron_operator.model.tools import Tools
from neuron_operator.settings import PlatformSettings

from .source import is_read_in_process

_INTERVAL = timedelta(hours=6)
_COMMIT = re.compile(r"[0-9a-f]{40}")

logger = logging.getLogger(__name__)


async def follow_upstream(scope: Scope, tools: Tools) -> Step:
    """Note on the revision which commit its branch or tag names, where that is another one.

    Of repositories that the operator reads itself. It stands in an annotation, so that a restart neither forgets it nor
    asks everybody at once. A hub that does not answer changes nothing.
    """
    revision, repository = scope.revision, scope.model.spec.model.hugging_face
    memory, now = tools.memory(scope.model), tools.clock()
    if revision is None or repository is None or not _may_move(repository, tools.settings):
        # A time that was set for an earlier spec would come, and never be followed by another.
        memory.upstream_at = None
        return Continue()
    if memory.upstream_at is None:
        memory.upstream_at = now + _INTERVAL * random.random()  # noqa: S311 - no secret is made of it
    if now < memory.upstream_at:
        return Continue()
    memory.upstream_at = now + _INTERVAL * random.uniform(0.9, 1.1)  # noqa: S311 - as above
    try:
        found = await tools.hub.commit(repository.repo, repository.revision)
    except (hub.SourceNotFound, hub.SourceAccessDenied, hub.SourceUnreachable) as error:
        logger.info("whether %s has moved is not known: %s", repository.repo, error)
        return Continue()
    moved_to = found if found != revision.record.source.commit else None
    if moved_to != revision.upstream_commit:
        annotations = {"metadata": {"annotations": {UPSTREAM_ANNOTATION: moved_to}}}
        try:
            scope.revision = parse_revision(await tools.children.annotate(revision.manifest, annotations))
        except Conflict:
            # Somebody edited it meanwhile; it is looked at anew with what they wrote.
            memory.upstream_at = now
            raise
    return Continue()


def _may_move(repository: HuggingFaceSource, settings: PlatformSettings) -> bool:
    """Whether the spec names a branch or tag of a repository that the operator reads itself."""
    return not _COMMIT.fullmatch(repository.revision) and is_read_in_process(repository, settings)
