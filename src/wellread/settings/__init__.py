"""The settings of every part, as strict groups: what a recipe's tables may hold, a file for each table.

Every key has a default that suits a workstation, a bound, and a sentence that ``docs/recipe.md`` is
generated from.  Import them from here; ``consistency`` says what tables have to agree on, ``explain`` what is
wrong with a key.  This package imports neither torch nor transformers.
"""

from wellread.settings.answer import AnswerSettings
from wellread.settings.base import Fraction, Name, Positive, Rate, Settings, Weight
from wellread.settings.continual import ContinualSettings
from wellread.settings.corpus import CorpusSettings
from wellread.settings.evaluate import EvaluateSettings
from wellread.settings.finetune import FinetuneSettings
from wellread.settings.light import LightSettings
from wellread.settings.masking import MESH, MaskingSettings, Unit
from wellread.settings.model import ModelSettings
from wellread.settings.pretrain import Beside, PretrainSettings
from wellread.settings.sparsity import SparsitySettings
from wellread.settings.tasks import Budget, TaskSettings
from wellread.settings.teacher import TeacherSettings
from wellread.settings.tokenizer import TokenizerSettings
from wellread.settings.variants import CheckpointSettings, VariantSettings

__all__ = [
    "AnswerSettings",
    "Beside",
    "Budget",
    "CheckpointSettings",
    "ContinualSettings",
    "CorpusSettings",
    "EvaluateSettings",
    "FinetuneSettings",
    "Fraction",
    "LightSettings",
    "MESH",
    "MaskingSettings",
    "ModelSettings",
    "Name",
    "Positive",
    "PretrainSettings",
    "Rate",
    "Settings",
    "SparsitySettings",
    "TaskSettings",
    "TeacherSettings",
    "TokenizerSettings",
    "Unit",
    "VariantSettings",
    "Weight",
]
