"""Train, save and load a tokenizer: a standard `transformers` fast tokenizer, the same bytes every time.

The WordPiece trainer of `tokenizers` numbers the pieces of its alphabet in the order of a hash map with
random keys, and breaks ties between merges by those numbers: two runs on a text give different vocabularies.
So the text is first counted here, word by word, and the trainer is handed its alphabet in a fixed order.
Counting also bounds the memory, and makes byte-level BPE see each word just as it would in the running text.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wellread.errors import ArtefactError, DataError, UserError
from wellread.files import read_json
from wellread.progress import Progress, say
from wellread.settings import TokenizerSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

# Names that transformers knows the tokens by.  Decoders need no class or mask token; WordPiece always needs
# one for unknown words.
ENCODER_SPECIALS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
CAUSAL_SPECIALS = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>"}

# Different words counted before those seen once are forgotten (about 400 MB).
MAX_WORDS = 3_000_000

# Leading white space belongs to a word because byte-level BPE learns it as part of the word.
_WORD = re.compile(r"\s*\S+")


def train(
    texts: Iterable[str],
    settings: TokenizerSettings,
    folder: Path,
    *,
    causal: bool,
    max_length: int,
    quiet: bool = False,
) -> PreTrainedTokenizerFast:
    """Train a tokenizer (or copy and maybe extend the one at ``settings.path``) and save it in ``folder``.

    Args:
        texts: the training documents; passed over once.
        settings: the recipe's [tokenizer].
        folder: where tokenizer.json and tokenizer_config.json are written.
        causal: special tokens and template of a decoder: <bos> A <eos> B <eos>, not [CLS] A [SEP] B [SEP].
        max_length: stated to users of the saved tokenizer, in tokens with special tokens.
        quiet: say nothing.

    Raises:
        DataError: the texts hold no word.
        ArtefactError: the folder at ``settings.path`` is no safe tokenizer.
        RecipeError: ``settings.add_words`` for one that is no WordPiece.
    """
    folder = Path(folder)
    if settings.path is not None:
        copied = _copy(Path(settings.path), folder)
        return _extend(copied, texts, settings, folder, quiet) if settings.add_words else copied
    words = count_words(texts, label="tokenizer: count words", quiet=quiet)
    if not words:
        raise DataError(
            "the tokenizer's training texts hold no word", fix="check corpus.sources and corpus.min_words"
        )
    specials = CAUSAL_SPECIALS if causal else ENCODER_SPECIALS
    learn = _train_wordpiece if settings.kind == "wordpiece" else _train_bpe
    backend = learn(words, settings, list(specials.values()))
    if not quiet and backend.get_vocab_size() < settings.vocab_size:
        say(
            f"tokenizer: the text gives {backend.get_vocab_size()} pieces, not the {settings.vocab_size} of "
            f"tokenizer.vocab_size (pieces must occur {settings.min_frequency} times)"
        )
    return _save(backend, specials, folder, max_length)


def load(folder: str | Path) -> PreTrainedTokenizerFast:
    """Load a saved fast tokenizer, offline and without running any code from the folder.

    Raises:
        ArtefactError: no tokenizer there, a damaged one, or a folder with Python code.
    """
    from transformers import AutoTokenizer

    folder = Path(folder)
    _check_folder(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library raises a bare Exception on damaged files
        raise _damaged(folder, f"the tokenizer cannot be loaded ({type(error).__name__})") from None
    if not tokenizer.is_fast or tokenizer.unk_token is None or tokenizer.pad_token is None:
        raise _damaged(folder, "not a fast tokenizer with padding and unknown tokens")
    return tokenizer  # type: ignore[return-value]


def count_words(texts: Iterable[str], *, label: str = "count words", quiet: bool = False) -> Counter[str]:
    """How often each word (with the white space before it) occurs; rare ones are forgotten past MAX_WORDS."""
    words: Counter[str] = Counter()
    with Progress(label, None, "words", quiet=quiet) as progress:
        for text in texts:
            found = _WORD.findall(text)
            words.update(found)
            progress.advance(len(found))
            least = 1
            while len(words) > MAX_WORDS:
                words = Counter({word: count for word, count in words.items() if count > least})
                least *= 2
    return words


def _split_words(words: Counter[str], backend: Tokenizer) -> Counter[str]:
    """The words as the tokenizer's own normaliser and splitter see them, for instance ``Ġword``."""
    pieces: Counter[str] = Counter()
    for word, count in words.items():
        if backend.normalizer is not None:
            word = backend.normalizer.normalize_str(word)
        for piece, _ in backend.pre_tokenizer.pre_tokenize_str(word):
            pieces[piece] += count
    return pieces


def _learn(learner: Tokenizer, trainer: Any, words: Counter[str]) -> None:
    """Train on split words, each repeated as often as it was seen (the trainer takes no counts)."""
    from tokenizers import pre_tokenizers

    def lines() -> Iterator[str]:
        line: list[str] = []
        for word, count in words.items():
            while count:
                take = min(count, 10_000 - len(line))
                line.extend([word] * take)
                count -= take
                if len(line) == 10_000:
                    yield " ".join(line)
                    line = []
        yield " ".join(line)

    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator(lines(), trainer)


def _train_wordpiece(words: Counter[str], settings: TokenizerSettings, specials: list[str]) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    backend = Tokenizer(models.WordPiece(unk_token=specials[1]))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=settings.lowercase,
        lowercase=settings.lowercase,
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    split = _split_words(words, backend)
    alphabet, continuing = _alphabet(split, limit=max(128, settings.vocab_size // 8))
    seeds = [*specials, *alphabet, *(f"##{character}" for character in continuing)]
    # The trainer takes the seeds in this order because it believes them to be special tokens; the model made
    # from its vocabulary does not.
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=settings.min_frequency,
        special_tokens=seeds,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix="##",
        show_progress=False,
    )
    learner = Tokenizer(models.WordPiece(unk_token=specials[1]))
    _learn(learner, trainer, split)
    backend.model = models.WordPiece(
        vocab=learner.get_vocab(), unk_token=specials[1], continuing_subword_prefix="##"
    )
    return backend


def _train_bpe(words: Counter[str], settings: TokenizerSettings, specials: list[str]) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=settings.min_frequency,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner = Tokenizer(models.BPE())
    _learn(learner, trainer, _split_words(words, backend))
    backend.model = learner.model
    return backend


def _alphabet(words: Counter[str], limit: int) -> tuple[list[str], list[str]]:
    """The ``limit`` most frequent characters, and those among them that continue a word somewhere."""
    seen: Counter[str] = Counter()
    continuing: set[str] = set()
    for word, count in words.items():
        for character in word:
            seen[character] += count
        continuing.update(word[1:])
    kept = sorted(sorted(seen, key=lambda character: (-seen[character], character))[:limit])
    return kept, [character for character in kept if character in continuing]


def _save(
    backend: Tokenizer, specials: dict[str, str], folder: Path, max_length: int
) -> PreTrainedTokenizerFast:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    backend.add_special_tokens(list(specials.values()))
    begin = specials.get("cls_token") or specials["bos_token"]
    end = specials.get("sep_token") or specials["eos_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} $B {end}",
        special_tokens=[(token, backend.token_to_id(token)) for token in (begin, end)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        padding_side="right",
        truncation_side="right",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **specials,
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _copy(source: Path, folder: Path) -> PreTrainedTokenizerFast:
    """Copy the files of a tokenizer, and nothing else that lies in its folder."""
    try:
        load(source)
    except ArtefactError as error:
        raise ArtefactError(
            error.what, where=f"tokenizer.path ({source})", fix="give the folder of a fast tokenizer"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "config.json",
    ):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    return load(folder)


def _extend(
    tokenizer: PreTrainedTokenizerFast,
    texts: Iterable[str],
    settings: TokenizerSettings,
    folder: Path,
    quiet: bool,
) -> PreTrainedTokenizerFast:
    """Add the words of the texts that save most pieces."""
    from wellread.models import vocabulary

    vocabulary.check_extendable(tokenizer)
    words = count_words(texts, label="tokenizer: count words", quiet=quiet)
    split = _split_words(words, tokenizer.backend_tokenizer)
    chosen = vocabulary.words_to_add(tokenizer, split, settings.add_words, settings.min_frequency)
    vocabulary.extend(tokenizer, chosen)
    if not quiet and len(chosen) < settings.add_words:
        say(f"tokenizer: the text has {len(chosen)} words to add, not {settings.add_words}")
    tokenizer.save_pretrained(folder)
    return load(folder)


def _check_folder(folder: Path) -> None:
    if not (folder / "tokenizer.json").is_file():
        raise _damaged(folder, "no tokenizer here (tokenizer.json is missing)")
    code = sorted(path.name for path in folder.glob("*.py"))
    if code:
        raise _damaged(folder, f"the folder holds Python code ({code[0]}), which is never run")
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        if not (folder / name).is_file():
            continue
        values = read_json(folder / name)
        if not isinstance(values, dict) or "auto_map" in values:
            raise _damaged(folder, f"{name} asks for code of its own (auto_map), or is no JSON object")


def _damaged(folder: Path, what: str) -> UserError:
    return ArtefactError(
        what, where=str(folder), fix="make the tokenizer anew, or give the folder of another one"
    )
