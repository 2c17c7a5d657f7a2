"""The settings of every part, as strict groups: what a recipe's tables may hold.

Every key has a default that suits a workstation, a bound, and a sentence that ``docs/recipe.md`` is
generated from.  This module imports neither torch nor transformers.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wellread.models import presets

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]


class Settings(BaseModel):
    """A frozen group of settings that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    # Keys that came after the first runs were made.  At their defaults they change nothing, and are left out
    # of what a run is told by, so that it stays the same run.
    later: ClassVar[tuple[str, ...]] = ()

    def idle(self) -> dict[str, Any]:
        """The keys of ``later`` that stand at their defaults, to be excluded from a dump."""
        return {key: True for key in self.later if getattr(self, key) == type(self).model_fields[key].default}


class CorpusSettings(Settings):
    """Which raw text is read, and how it is cleaned."""

    sources: tuple[str, ...] = Field(
        min_length=1,
        description="Known corpora (`wellread data list`), files, folders or glob patterns; relative paths "
        "start at the recipe.",
    )
    languages: tuple[str, ...] = Field(
        ("eng",), description="Keep documents stated to be in these languages (ISO 639-2); empty keeps all."
    )
    min_words: int = Field(20, ge=0, description="Drop documents with fewer words.")
    max_documents: Positive | None = Field(None, description="Stop reading after so many kept documents.")
    near_duplicates: Fraction = Field(
        0.8,
        description="Drop documents whose estimated Jaccard similarity (word 5-grams) to an earlier one "
        "reaches this; 0 keeps them. Exact duplicates always go.",
    )
    validation: Fraction = Field(
        0.01, description="Share of the pre-training documents held out, by id, for the validation loss."
    )
    on_overlap: Literal["refuse", "exclude"] = Field(
        "refuse",
        description="When a document's id or text stands in the dev or test set of a task: stop, or leave it "
        "out. Documents behind derived tasks are always left out.",
    )
    keep_layout: bool = Field(
        False,
        description="Text with code: keep line ends, indentation and blank lines (byte-level BPE only).",
    )
    text_field: str = Field("text", description="Column or key of the text in JSONL, CSV, TSV and Parquet.")
    id_field: str = Field(
        "id", description="Column or key of the document id; made from file and row if absent."
    )


class TokenizerSettings(Settings):
    """The tokenizer, trained on the pre-training documents."""

    kind: Literal["wordpiece", "bpe"] = Field("wordpiece", description="WordPiece or byte-level BPE.")
    vocab_size: int = Field(8192, ge=300, le=1_000_000, description="Entries, special tokens included.")
    lowercase: bool = Field(True, description="Lower-case the text (WordPiece only).")
    min_frequency: Positive = Field(2, description="Pieces seen less often are not learnt.")
    path: str | None = Field(
        None,
        description="Use this tokenizer folder, or a known model's (`wellread data list`), instead of "
        "training one.",
    )
    add_words: Annotated[int, Field(ge=0)] = Field(
        0,
        description="With `path`: so many words of the corpus become pieces, those that save most; text "
        "without them is cut as before (WordPiece only).",
    )

    @model_validator(mode="after")
    def _added(self) -> TokenizerSettings:
        if self.add_words and self.path is None:
            raise ValueError("add_words needs `path`, the tokenizer that is extended")
        return self


class ModelSettings(Settings):
    """The architecture: a stock `transformers` layout."""

    # What it fills in tells the model; the name is no part of that.
    preset: str | None = Field(
        None,
        exclude=True,
        description="A published shape by name (docs/methods/miniatures.md), such as bert-4-256 or "
        "bert-tiny: fills in `layout`, `layers`, `hidden`, `heads` and `ffn`; keys that are given win.",
    )
    layout: Literal["modernbert", "bert", "llama", "gpt2"] = Field("modernbert", description="Stock layout.")
    layers: Positive = Field(4, description="Transformer layers.")
    hidden: Positive = Field(256, description="Width of the residual stream.")
    heads: Positive = Field(4, description="Attention heads; must divide `hidden`.")
    ffn: Positive | None = Field(
        None,
        description="Inner width of the feed-forward block; default 4 x hidden, for gated layouts "
        "(modernbert, llama) 8/3 x hidden rounded up to a multiple of 32.",
    )
    max_length: int = Field(512, ge=8, description="Longest sequence in tokens, special tokens included.")
    local_attention: Positive = Field(128, description="ModernBERT: window of the local layers, in tokens.")
    global_every: Positive = Field(3, description="ModernBERT: every n-th layer attends globally.")
    dropout: Fraction = Field(0.0, description="Dropout during pre-training.")
    init_std: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Standard deviation of the initial weights; default 0.02 x sqrt(768 / hidden)."
    )
    start: str | None = Field(
        None,
        description="A checkpoint to start from, instead of random weights: its folder, or a known model "
        "(`wellread data list`). A head that it lacks is new.",
    )
    start_vocabulary: Literal["same", "mean"] = Field(
        "same",
        description="With `start`: refuse a tokenizer that is not the checkpoint's, or give each of its new "
        "pieces the mean of the rows of the old pieces that it was cut into.",
    )
    grow: Literal["none", "function-preserving", "advanced", "zero-pad", "stack"] = Field(
        "none",
        description="With `start`: grow the checkpoint to the shape given here. Its width by copies that "
        "compute the same, by copies of the layer above, or by zeros at any ratio (llama, gpt2); or its "
        "layers only.",
    )
    grow_depth: Literal["stack", "interleave", "identity"] = Field(
        "stack",
        description="With `grow`: where layers are added, the stack once more on top, copies beside their "
        "layers, or on top with zero outputs, so that they change nothing at first (not bert).",
    )

    @model_validator(mode="after")
    def _growth(self) -> ModelSettings:
        if self.grow != "none" and self.start is None:
            raise ValueError(f'grow = "{self.grow}" needs `start`, the checkpoint that grows')
        if self.grow == "none" and self.grow_depth != "stack":
            raise ValueError(f'grow_depth = "{self.grow_depth}" needs `grow`')
        return self

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        return presets.filled(value)

    @field_validator("preset")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return presets.check(value) if value is not None else None

    @model_validator(mode="after")
    def _shape(self) -> ModelSettings:
        if self.hidden % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide hidden ({self.hidden})")
        if self.layout in ("modernbert", "llama") and (self.hidden // self.heads) % 2:
            raise ValueError("hidden / heads must be even (rotary positions)")
        return self

    @property
    def inner(self) -> int:
        """Inner width of the feed-forward block, default filled in."""
        if self.ffn is not None:
            return self.ffn
        if self.layout in ("modernbert", "llama"):
            return -(-self.hidden * 8 // 3 // 32) * 32
        return 4 * self.hidden

    @property
    def std(self) -> float:
        """Standard deviation of the initial weights, default filled in."""
        return self.init_std if self.init_std is not None else 0.02 * (768 / self.hidden) ** 0.5

    @property
    def causal(self) -> bool:
        """Whether the layout is a decoder."""
        return self.layout in ("llama", "gpt2")


class SparsitySettings(Settings):
    """Random sparsity during pre-training (SPDF / MediSwift), fixed or moving (SET, RigL)."""

    level: Fraction = Field(
        0.0,
        description="Share of the weights fixed at zero in every attention and "
        "feed-forward matrix; 0 is dense.",
    )
    pattern: Literal["unstructured", "block4", "block8", "block16", "block32"] = Field(
        "unstructured", description="Single weights, or square blocks balanced per block row."
    )
    rescale: bool = Field(True, description="Scale the surviving initial weights by 1/sqrt(1 - level).")
    dynamic: Literal["none", "set", "rigl"] = Field(
        "none",
        description="Let the smallest weights die now and then, and as many others come to life: random ones "
        "(set), or those with the largest gradient (rigl).",
    )
    update_every: Positive = Field(100, description="Dynamic: steps between updates.")
    drop_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3, description="Dynamic: share of the living weights that die at the first update; falls to 0."
    )
    update_until: Rate = Field(0.75, description="Dynamic: share of the steps after which updates end.")

    @model_validator(mode="after")
    def _moving(self) -> SparsitySettings:
        if self.dynamic != "none" and self.level == 0:
            raise ValueError(
                f'dynamic = "{self.dynamic}" moves weights only where some are zero: '
                'set level above 0, or dynamic = "none"'
            )
        return self


Unit = Literal["token", "word", "span", "pmi", "ngram", "lexicon", "tf-idf"]
Weight = Annotated[float, Field(ge=0)]
MESH = "mesh"  # as a lexicon: the names of diseases that come with the derived task of that kind


class MaskingSettings(Settings):
    """What a masked language model has to predict."""

    rate: Rate = Field(0.3, description="Share of the tokens that are masked.")
    rate_end: Rate | None = Field(
        None, description="The share at the end, reached linearly; default the same throughout."
    )
    units: tuple[tuple[Unit, Weight], ...] = Field(
        (("token", 1.0),),
        description="What is masked together, as a table of weights such as {token = 0.5, span = 0.5}: "
        "token, word, span (of words), pmi (phrases learnt from the corpus), ngram (by t-statistic), "
        "lexicon, tf-idf (the words that tell a text from others). A weight is a share of the masked tokens.",
    )
    lexicon: str | None = Field(
        None,
        description='Unit lexicon: a text file with one term a line, or "mesh" for the names of diseases in '
        "MeSH.",
    )
    pmi_coverage: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="Unit pmi: as many phrases are listed as cover this share of the words."
    )
    ngrams: Positive = Field(30_000, description="Unit ngram: most n-grams of two and three words listed.")
    explicit: bool = Field(
        False,
        description="Unit ngram, alone: each n-gram is hidden behind one [MASK] and predicted whole as "
        "well as by its tokens (ERNIE-Gram).",
    )
    tf_idf_top: Rate = Field(
        0.25, description="tf-idf: the share of a sequence's words, those of the highest scores, that counts."
    )
    replace: Literal["mask", "bert", "tf-idf"] = Field(
        "mask",
        description="What is read there: [MASK] throughout; or 80% [MASK], 10% the token itself and 10% "
        "random tokens (bert) or tokens with a high TF-IDF (tf-idf).",
    )

    @field_validator("units", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        return tuple(value.items()) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _weighted(self) -> MaskingSettings:
        weights = dict(self.units)
        if not sum(weights.values()):
            raise ValueError("the weights of `units` sum to 0: give at least one of them a weight above 0")
        if bool(weights.get("lexicon")) != (self.lexicon is not None):
            raise ValueError(
                "`units.lexicon` and `lexicon` go together: give the unit a weight and the list a file, or "
                "leave both out"
            )
        if self.explicit and (
            {name for name, weight in self.units if weight} != {"ngram"} or self.replace != "mask"
        ):
            raise ValueError('`explicit` needs `units = {ngram = 1.0}` alone, and `replace = "mask"`')
        return self

    @property
    def lists(self) -> set[str]:
        """What has to be learnt or read before masking."""
        weighted = {name for name, weight in self.units if weight}
        return weighted & {"pmi", "ngram", "lexicon", "tf-idf"} | ({self.replace} & {"tf-idf"})


Beside = Literal["contrastive", "categories", "replaced-tokens"]


class TeacherSettings(Settings):
    """A language model whose predictions are learnt beside the words, throughout or at first only (SALT)."""

    path: str = Field(
        description="Folder of the teacher, a model of the same kind (masked or causal) with this run's "
        'tokenizer, a known model, or another variant of the recipe ("variants.NAME").'
    )
    weight: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5,
        description="Share of the teacher's distributions in the loss; the words themselves get the rest.",
    )
    top: Positive = Field(16, description="The teacher's likeliest tokens at each position that are learnt.")
    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="Softens both distributions.")
    soften: Literal["both", "teacher"] = Field(
        "both", description="Whose distributions the temperature softens (SALT: below 1, the teacher's)."
    )
    share: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Share of the steps, from the first on, that have the teacher; the rest is plain."
    )
    ramp: bool = Field(False, description="Let the weight fall to zero over that share.")
    keep: Rate = Field(
        1.0,
        description="Steps with the teacher read only this share of the text: what the teacher scores as "
        "hard but learnable.",
    )
    keep_top: Positive = Field(
        10, description="`keep`: a token is learnable if it is among so many of the teacher's likeliest."
    )


class ContinualSettings(Settings):
    """Going on from a checkpoint on a field's text without the stability gap."""

    subset: Rate = Field(
        1.0,
        description="Share of the training tokens that is kept, in whole documents; `epochs` counts passes "
        "over these.",
    )
    reference: str | None = Field(
        None,
        description="Name of a trusted text in [texts]: the subset is then what a trigram model of it finds "
        "likeliest; default drawn at random.",
    )
    general: str | None = Field(
        None,
        description="Name of a text in [texts] like that of the first pre-training: its held-out part is "
        "validated on beside the field's.",
    )
    replay: Fraction = Field(0.0, description="Share of the tokens read that come from `general`.")
    max_rise: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Stop where the loss on `general` has risen by more nats than this above the start "
        "checkpoint's; the last checkpoint within the bound is kept.",
    )

    @model_validator(mode="after")
    def _texts(self) -> ContinualSettings:
        if self.reference is not None and self.subset == 1:
            raise ValueError("`reference` ranks documents for a subset: set subset below 1, or leave it out")
        if self.general is None and (self.replay or self.max_rise):
            key = "replay" if self.replay else "max_rise"
            raise ValueError(f"{key} needs `general`, the name of a text in [texts]")
        return self


class PretrainSettings(Settings):
    """Objective, optimiser and schedule of pre-training."""

    later: ClassVar[tuple[str, ...]] = (
        "schedule",
        "ema_decay",
        "lengths",
        "batches",
        "submodels",
        "submodel_share",
        "teacher",
        "pairs",
        "besides",
        "categories",
        "continual",
    )

    objective: Literal["mlm", "clm"] | None = Field(
        None, description="Masked or causal language model; default by layout."
    )
    tokens: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Training tokens in all; give this or `epochs`. 0 takes `model.start` as it is.",
    )
    epochs: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Passes over the corpus (default 1)."
    )
    batch_tokens: Positive = Field(8192, description="Tokens per optimiser step, before the last short bin.")
    lengths: tuple[tuple[Positive, Rate], ...] = Field(
        (),
        description="Stages of sequence length, such as [[128, 0.5], [512, 0.5]]: the longest sequence, "
        "up to model.max_length, and the share of the tokens. A step has as many tokens in each.",
    )
    batches: tuple[tuple[Positive, Rate], ...] = Field(
        (),
        description="Stages of batch size, such as [[1024, 0.2], [4096, 0.8]]: tokens per step, up to "
        "`batch_tokens`, and the share of the tokens.",
    )
    submodels: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Two-stage training of a grown model: at first each step trains the top `submodels` "
        "layers of a sub-model of the lowest `submodels`, twice as many, ... layers; 0 for none.",
    )
    submodel_share: Rate = Field(0.2, description="Share of the steps that train sub-models.")
    accumulate: Positive = Field(1, description="Parts into which a step's batch is cut to save memory.")
    recompute: bool = Field(
        False, description="Keep only each layer's input and work the rest out again: less memory, slower."
    )
    masking: MaskingSettings = Field(default_factory=MaskingSettings, description="What is masked.")
    pairs: Literal["none", "sop", "nsp"] = Field(
        "none",
        description="Besides masking, as ablations: samples of two segments, and whether these are in their "
        "order (sop), or the second follows the first (nsp).",
    )
    besides: tuple[tuple[Beside, Weight], ...] = Field(
        (),
        description="What is learnt besides, as a table of weights such as {contrastive = 1.0}: contrastive "
        "(near spans get near embeddings), categories (of the documents), replaced-tokens (which tokens a "
        "small generator replaced; its usual weight is 50).",
    )
    categories: Literal["journal", "type", "year", "mesh"] | None = Field(
        None, description="With `besides.categories`: what the documents' categories are."
    )
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="Fused AdamW, or Muon for hidden matrices with AdamW for the rest."
    )
    learning_rate: Rate = Field(2e-3, description="Peak rate of AdamW.")
    muon_learning_rate: Rate = Field(0.02, description="Peak rate of Muon's matrices.")
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(0.01, description="Decoupled weight decay.")
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.98), description="AdamW's decay rates.")
    eps: Annotated[float, Field(gt=0)] = Field(1e-8, description="AdamW's epsilon.")
    clip: Annotated[float, Field(gt=0)] = Field(1.0, description="Largest gradient norm.")
    schedule: Literal["wsd", "wsd-sqrt", "cosine", "triangular"] = Field(
        "wsd",
        description="After the warm-up: a plateau and a linear decay (wsd), a plateau and a decay by "
        "1 - sqrt (wsd-sqrt), half a cosine down, or a line down from the peak (triangular).",
    )
    warmup: Fraction = Field(0.06, description="Share of the steps that warm up.")
    decay: Rate = Field(
        0.4,
        description="wsd, wsd-sqrt: share of the steps, at the end, that decay to zero; cosine and "
        "triangular fall from the warm-up on.",
    )
    ema_decay: Fraction = Field(
        0.0,
        description="Validate and keep an exponential moving average of the weights, in which a step's "
        "weight falls by this factor with each later one; 0 for none.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 autocast on GPU, fp32 on CPU."
    )
    checkpoint_seconds: Annotated[float, Field(gt=0)] = Field(
        60.0, description="Save a checkpoint this often."
    )
    validate_every: Positive | None = Field(
        None, description="Steps between validations; default 10 in a run."
    )
    sparsity: SparsitySettings = Field(default_factory=SparsitySettings, description="Sparse pre-training.")
    teacher: TeacherSettings | None = Field(None, description="Distillation of a language model; SALT.")
    continual: ContinualSettings | None = Field(
        None, description="Going on from a checkpoint: subset, replay, a bound on forgetting."
    )

    @field_validator("besides", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        return tuple(value.items()) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _categorised(self) -> PretrainSettings:
        if bool(dict(self.besides).get("categories")) != (self.categories is not None):
            raise ValueError(
                "`besides.categories` and `categories` go together: give the first a weight and the second a "
                "property of documents, or leave both out"
            )
        return self

    @model_validator(mode="after")
    def _whole(self) -> PretrainSettings:
        others = {name for name, weight in self.besides if weight} & {"categories", "replaced-tokens"}
        if self.masking.explicit and (others or self.pairs != "none"):
            raise ValueError(
                "`masking.explicit` shortens the text, and cannot stand beside "
                f"{', '.join(sorted(others)) or '`pairs`'}: choose one"
            )
        return self

    @model_validator(mode="after")
    def _length(self) -> PretrainSettings:
        if self.tokens is not None and self.epochs is not None:
            raise ValueError("give `tokens` or `epochs`, not both")
        if self.tokens == 0 and self.sparsity.level:
            raise ValueError(
                "tokens = 0 trains nothing, so there is nothing to be sparse: leave sparsity out"
            )
        return self

    @model_validator(mode="after")
    def _stages(self) -> PretrainSettings:
        for key, stages in (("lengths", self.lengths), ("batches", self.batches)):
            values = [value for value, _ in stages]
            if values != sorted(set(values)):
                raise ValueError(f"{key} must grow from stage to stage, not {values}")
            total = sum(share for _, share in stages)
            if stages and abs(total - 1) > 1e-6:
                raise ValueError(f"the shares in {key} must sum to 1, not {total:g}")
        if self.batches and self.batches[-1][0] != self.batch_tokens:
            raise ValueError(f"the last of batches must be batch_tokens ({self.batch_tokens})")
        if self.continual and (self.lengths or self.batches):
            raise ValueError("continual does not go with stages of lengths or batches: choose one")
        if self.continual and self.continual.replay and self.categories:
            raise ValueError("categories are the corpus' own: continual.replay has none, choose one")
        if self.tokens == 0 and (self.continual or (self.teacher and self.teacher.keep < 1)):
            raise ValueError("tokens = 0 reads no text: leave continual and teacher.keep out")
        if self.teacher and self.teacher.keep < 1 and (self.continual or self.lengths or self.batches):
            raise ValueError(
                "teacher.keep chooses the text, and so do continual, lengths and batches: choose one of them"
            )
        if self.submodels and self.sparsity.dynamic != "none":
            raise ValueError("submodels leave layers out, dynamic sparsity wants them all: choose one")
        return self

    def no_part(self) -> dict[str, Any]:
        """What changes no bit of a finished run, to be excluded from a dump that tells it by."""
        found: dict[str, Any] = {"checkpoint_seconds": True, "recompute": True} | self.idle()
        return found if "continual" in found else found | {"continual": {"max_rise"}}

    @property
    def mask_rate(self) -> float:
        """Share of the tokens that are masked, on average over the training."""
        masking = self.masking
        return (masking.rate + (masking.rate if masking.rate_end is None else masking.rate_end)) / 2


Budget = Annotated[int, Field(ge=0)] | Literal["all"]


class TaskSettings(Settings):
    """One labelled task."""

    derive: Literal["sentence-role", "human-animal", "disease-category", "review"] | None = Field(
        None, description="Build the task from the corpus's own structure."
    )
    known: str | None = Field(None, description="A benchmark task whose original files lie under `path`.")
    path: str | None = Field(
        None,
        description="Folder of train, dev and test files, or one labelled file; see `wellread data check`.",
    )
    fold: Annotated[int, Field(ge=0)] = Field(
        0, description="Known tasks with folds (pubmedqa): the one that is dev."
    )
    max_train: Positive | None = Field(None, description="Derived tasks: at most so many training examples.")
    max_eval: Positive | None = Field(
        None, description="Derived tasks: at most so many dev and test examples each."
    )
    budgets: tuple[Budget, ...] = Field(
        ("all",),
        min_length=1,
        description='Numbers of training examples to try; 0 asks the model untrained (heads "mlm" and "lm").',
    )
    metric: str | None = Field(None, description="Score to report first; default by kind of task.")
    finetune: dict[str, Any] = Field(
        default_factory=dict, description="Settings of [finetune] that differ here."
    )

    @model_validator(mode="after")
    def _source(self) -> TaskSettings:
        if (self.derive is None) == (self.path is None):
            raise ValueError("give either `derive` or `path` (with `known` for a benchmark's original files)")
        return self


class LightSettings(Settings):
    """Light-weight fine-tuning: a few parameters are trained beside the head, the rest stays."""

    method: Literal[
        "full",
        "lora",
        "houlsby",
        "lightweight",
        "tiny-attention",
        "residual",
        "prompt",
        "prefix",
        "bitfit",
    ] = Field("full", description="What is trained beside the head; `full` trains every weight.")
    rank: Positive = Field(8, description="LoRA: rank of the change of a matrix.")
    alpha: Annotated[float, Field(gt=0)] = Field(
        16.0, description="LoRA: the change is multiplied by alpha / rank."
    )
    targets: tuple[Literal["query", "key", "value", "output", "ffn"], ...] = Field(
        ("query", "value"), min_length=1, description="LoRA: the matrices that change."
    )
    bottleneck: Positive = Field(
        32, description="Inner width of the adapters (houlsby, lightweight, residual)."
    )
    heads: Positive = Field(4, description="TinyAttention: heads, each of one dimension.")
    blocks: Positive = Field(1, description="Gated residual networks on top of the last layer.")
    vectors: Positive = Field(10, description="prompt, prefix: learnt vectors; inputs are so much shorter.")
    place: Literal["before", "after"] = Field(
        "before", description="prompt: before the text, or between the text and the answer."
    )


class AnswerSettings(Settings):
    """Answering in words (`finetune.head` "mlm" and "lm"): the question and the words."""

    template: str | None = Field(
        None,
        description="What the model reads: {text}, {text_pair} and {options} are filled in, {answer} is "
        "where it answers. Lines of which nothing is filled in are left out; only the texts are cut when it "
        'is too long. Default "{text}\\n{text_pair}\\n{options}\\nAnswer: {answer}".',
    )
    words: tuple[tuple[str, str], ...] = Field(
        (),
        description='What is answered for each label, as a table such as {SUPPORT = "yes", REFUTE = "no"}; '
        'default the labels themselves, and for "mlm" the letters A, B, ... beside a list of the labels '
        "where one of them is more than a token.",
    )
    mlm_share: Fraction = Field(
        0.2, description='"mlm": share of the training examples that are plain masked language modelling.'
    )
    mlm_rate: Rate = Field(0.3, description='"mlm": share of their tokens that are masked.')
    normalise: Literal["none", "tokens"] = Field(
        "none",
        description='"lm": compare the log-likelihoods of the answers as they are, or divided by their '
        "numbers of tokens.",
    )

    @field_validator("words", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        return tuple(value.items()) if isinstance(value, dict) else value


class FinetuneSettings(Settings):
    """Fine-tuning on labelled tasks."""

    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1, 2), min_length=1, description="Runs per setting."
    )
    starts: tuple[Literal["pretrained", "random"], ...] = Field(
        ("pretrained", "random"),
        min_length=1,
        description="From the pre-trained model, and from no pre-training.",
    )
    recipe: Literal["stable", "standard"] | None = Field(
        None,
        description="Settings picked by task and model size (docs/methods/stable-recipe.md); keys given here "
        "win. `standard` is the original BERT recipe, a baseline.",
    )
    epochs: Positive = Field(10, description="Passes over the training examples, at most.")
    max_steps: Positive | None = Field(None, description="Optimiser steps at most.")
    min_steps: Annotated[int, Field(ge=0)] = Field(
        100, description="Small budgets run more epochs to reach this."
    )
    batch: Positive = Field(32, description="Examples per step.")
    learning_rate: Rate = Field(3e-4, description="Peak rate of AdamW.")
    random_learning_rate: Rate | None = Field(
        None, description="Peak rate when starting without pre-training; default the same."
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(0.01, description="Decoupled weight decay.")
    eps: Annotated[float, Field(gt=0)] = Field(1e-6, description="AdamW's epsilon.")
    clip: Annotated[float, Field(gt=0)] = Field(1.0, description="Largest gradient norm.")
    warmup: Fraction = Field(0.1, description="Share of the steps that warm up; then linear decay to zero.")
    dropout: Fraction = Field(0.1, description="Dropout in the model and before the head.")
    patience: Positive = Field(3, description="Stop after so many evaluations on dev without a better score.")
    evaluations: Positive = Field(10, description="Evaluations on dev in a full run.")
    max_length: Positive | None = Field(None, description="Longest input in tokens; default the model's.")
    class_weights: bool = Field(False, description="Weigh classes inversely to their frequency.")
    bias_correction: bool = Field(
        True, description="AdamW's bias correction; without it as in the original BERT code."
    )
    freeze_layers: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Freeze the embeddings and so many of the lowest layers (0: the embeddings only); "
        "pre-trained starts only.",
    )
    layer_decay: Rate = Field(
        1.0, description="Learning rate of a layer over that of the layer above it; pre-trained starts only."
    )
    reinit_layers: Annotated[int, Field(ge=0)] = Field(
        0, description="Re-initialise so many of the top layers; pre-trained starts only."
    )
    average: Literal["none", "ema", "swa"] = Field(
        "none", description="Evaluate and keep an average of the weights over steps."
    )
    ema_decay: Fraction = Field(0.98, description="Factor by which a step's weight in the EMA falls.")
    swa_last: Rate = Field(0.25, description="Share of the steps, at the end, that SWA averages.")
    rdrop: Annotated[float, Field(ge=0)] = Field(
        0.0, description="R-Drop: weight of the divergence of two dropout passes; doubles the time."
    )
    light: LightSettings = Field(
        default_factory=LightSettings, description="Light-weight methods, for pre-trained starts."
    )
    head: Literal["classifier", "mlm", "lm"] = Field(
        "classifier",
        description="A fresh classification head, or (one label of several) the head of pre-training that "
        "answers in words: under a mask (encoders) or as a continuation (decoders).",
    )
    answer: AnswerSettings = Field(default_factory=AnswerSettings, description="Answering in words.")

    def facts(self, *without: str) -> dict[str, Any]:
        """All keys but ``without``, and where a recipe picks the rest, which of them are stated."""
        facts = self.model_dump(mode="json", exclude=set(without))
        return facts | ({"stated": sorted(self.model_fields_set - {*without})} if self.recipe else {})


class EvaluateSettings(Settings):
    """Rivals and intervals."""

    rivals: tuple[Literal["majority", "tfidf", "static", "minilm-frozen", "minilm-setfit", "cct"], ...] = (
        Field(
            ("majority", "tfidf"),
            description="Cheap rivals on the same splits (docs/methods/rivals.md); those with minilm need "
            "`wellread data get minilm`.",
        )
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(
        1000, description="Resamples behind each 95% interval; 0 for none."
    )


class VariantSettings(Settings):
    """A named change of the model or its pre-training, built side by side with the others."""

    name: Name = Field(description="Name in tables and plots.")
    model: dict[str, Any] = Field(default_factory=dict, description="Keys of [model] that differ.")
    pretrain: dict[str, Any] = Field(default_factory=dict, description="Keys of [pretrain] that differ.")
    finetune: dict[str, Any] = Field(default_factory=dict, description="Keys of [finetune] that differ.")


class CheckpointSettings(Settings):
    """A model made elsewhere, fine-tuned beside ours on every task."""

    name: Name = Field(description="Name in tables and plots.")
    start: str = Field(
        description="Folder of a checkpoint with its tokenizer, or a known model (`wellread data list`)."
    )
    finetune: dict[str, Any] = Field(
        default_factory=dict, description="Keys of [finetune] that differ, the learning rate for one."
    )
