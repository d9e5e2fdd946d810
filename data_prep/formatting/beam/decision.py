"""What a run is to do, which follows from what a survey found in the input.

A worker decides, for the steps that come after, and the program that started the pipeline, which
tells it. Both ask the same question of the same files, and so get the same answer. Imports nothing
of Beam.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from data_prep.common import files as beam_files
from data_prep.common.same_run import require_same_settings
from data_prep.formatting import manifest
from data_prep.formatting.beam.results import SurveyedFile, survey_of
from data_prep.formatting.selection import Survey
from data_prep.formatting.settings import FormatSettings


class Decision(NamedTuple):
    """What a run is to do.

    Attributes:
      described: what its manifest begins with.
      versions: what each worker is to have.
      survey: of the whole input.
      categories: the chosen ones.
      notes: how many there are to format.
    """

    described: dict[str, Any]
    versions: dict[str, str]
    survey: Survey
    categories: list[str]
    notes: int


class Request(NamedTuple):
    """What a run is asked for.

    Attributes:
      settings: the flags.
      output_dir: a folder of any file system.
      staging: the folder within it for what is not complete.
      begun: what a run's manifest was to begin with that had begun to move its files to their
        names, None if there was no such run.
    """

    settings: FormatSettings
    output_dir: str
    staging: str
    begun: Mapping[str, Any] | None

    def decide(
        self, surveyed: Sequence[SurveyedFile], splitter: Mapping[str, str]
    ) -> Decision | None:
        """Returns what is to be done, None if the output is complete already.

        Args:
          surveyed: what is in each file of the input.
          splitter: the versions of the sentence splitter.

        Raises:
          UserError: the input cannot be used, or the output folder holds something else.
        """
        settings = self.settings
        versions = settings.versions(splitter)
        described = settings.described([file.described for file in surveyed], versions)
        folder = beam_files.Folder(self.output_dir)
        earlier = manifest.find_earlier(folder, described)
        if earlier is manifest.Earlier.COMPLETE:
            return None
        survey = survey_of(surveyed, skip_bad_rows=settings.skip_bad_rows)
        categories = survey.choose(settings.category)
        if self.begun is not None:
            require_same_settings(
                self.begun,
                described,
                f"{self.staging} holds the unfinished work of a run with other settings",
                f"give the same flags to go on, remove {self.staging}, or choose another "
                "--output_dir",
            )
        elif earlier is manifest.Earlier.NONE:
            settings.require_free_names(
                self.output_dir, categories, lambda name: folder.size(name) is not None
            )
        notes = sum(map(survey.usable_of, categories))
        settings.planting(None).require_enough(notes)
        return Decision(described, versions, survey, categories, notes)
